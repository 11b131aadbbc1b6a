LIB_SRCS += $(addprefix lib/wal/,wal.c wal_doubt.c wal_format.c wal_group.c wal_recover.c wal_space.c wal_stop.c \
	wal_sync.c wal_view.c wal_writer.c)
