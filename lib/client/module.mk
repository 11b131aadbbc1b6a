LIB_SRCS += $(addprefix lib/client/,client.c place.c put.c read.c)
