LIB_SRCS += $(addprefix lib/rpc/,frame.c arena.c rows.c conn.c unix.c)
