LIB_SRCS += $(addprefix lib/store/,entry.c seg.c metadb.c shard.c slice.c apply.c txn.c replay.c read.c scan.c search.c mark.c roster.c claim.c pagesum.c gen.c carry.c compact.c snap.c \
	verify.c verify_index.c verify_names.c verify_shard.c)
