LIB_SRCS += $(addprefix lib/raft/,repl.c repl_accept.c repl_conf.c repl_core.c repl_errno.c repl_guard.c repl_install.c \
	repl_io.c repl_mark.c repl_member.c repl_msg.c)
