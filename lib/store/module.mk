LIB_SRCS += $(addprefix lib/store/,entry.c)
