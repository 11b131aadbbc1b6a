LIB_SRCS += $(addprefix lib/hnsw/,hnsw.c link.c search.c check.c measure.c precision.c truth.c save.c remap.c)

# The loops that look over a block of distances, and over a row of links, are plain C.
CFLAGS_lib_hnsw_truth := -O3
CFLAGS_lib_hnsw_save := -O3
