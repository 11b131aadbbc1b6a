LIB_SRCS += $(sort $(wildcard lib/cluster/*.c))
CFLAGS_lib_cluster_vcheck := -O3
