LIB_SRCS += $(addprefix lib/raft/,repl.c repl_core.c repl_errno.c repl_guard.c repl_io.c \
	repl_mark.c repl_msg.c)
