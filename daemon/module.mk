DAEMON_SRCS += $(sort $(wildcard daemon/*.c))
# libsystemd where present: readiness is then told to systemd (Type=notify).
CFLAGS_daemon_supervise = $(CFLAGS_daemon_main)
CFLAGS_daemon_main = $(eval CFLAGS_daemon_main := $$(shell pkg-config --exists libsystemd && \
	echo -DHAVE_SYSTEMD))$(CFLAGS_daemon_main)
DAEMON_LIBS = $(eval DAEMON_LIBS := $$(shell pkg-config --silence-errors --libs libsystemd))$(DAEMON_LIBS)
