# The tools: one program per file, over cli.c and cli_io.c.  A program whose source is not there
# yet is left out, so that one missing tool never stops the others.
CLI_COMMON_SRCS += $(addprefix cli/,cli.c cli_io.c cli_client.c)
CLI_PROGS += $(patsubst cli/%.c,%,$(wildcard $(patsubst %,cli/vec-%.c, \
	create drop ls put get rm scan query embed conv index recall snap stat fsck wal)))
