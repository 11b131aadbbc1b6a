LIB_SRCS += $(addprefix lib/embed/,cmd.c embed.c hash.c url.c words.c)
