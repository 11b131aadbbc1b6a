LIB_SRCS += $(addprefix lib/codec/,answer.c arena.c complete.c format.c json.c npy.c number.c parse.c \
	print.c question.c reader.c rows.c writer.c)
# Byte and half-float rows are plain loops that want the vectoriser.
CFLAGS_lib_codec_rows := -O3
