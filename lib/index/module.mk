LIB_SRCS += $(addprefix lib/index/,index.c codes.c codes_coarse.c scan.c scratch.c topk.c flat.c checkpoint.c recall.c remap.c)

# The loops over components are plain C.
CFLAGS_lib_index_codes := -O3
CFLAGS_lib_index_codes_coarse := -O3
