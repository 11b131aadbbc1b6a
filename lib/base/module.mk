LIB_SRCS += $(addprefix lib/base/,bytes.c clock.c disk.c err.c hash.c lock.c log.c record.c timeslice.c unsynced.c)
