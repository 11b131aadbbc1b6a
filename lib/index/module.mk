LIB_SRCS += $(addprefix lib/index/,index.c codes.c scan.c scratch.c flat.c checkpoint.c)
