LIB_SRCS += lib/query/merge.c
