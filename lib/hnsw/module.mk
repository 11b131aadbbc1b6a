LIB_SRCS += $(addprefix lib/hnsw/,hnsw.c link.c search.c check.c measure.c precision.c truth.c save.c)
