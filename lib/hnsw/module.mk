LIB_SRCS += $(addprefix lib/hnsw/,hnsw.c link.c search.c check.c measure.c precision.c truth.c save.c remap.c)

# The loop that looks over a block of distances is plain C.
CFLAGS_lib_hnsw_truth := -O3
