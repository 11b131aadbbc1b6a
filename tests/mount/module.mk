TESTS += mount/test_errlog mount/test_names mount/test_nodes mount/test_flight mount/test_carry mount/test_spin
TEST_COMMON_mount := daemon/errlog.c daemon/fs_names.c daemon/carry.c

# Programs of their own, for what bats cannot say: the calls of POSIX one by one, random ones against a
# model, and questions whose answers are known.
MOUNT_PROGS := $(addprefix $(OUT)/tests/mount/,posix fsx asks)
$(MOUNT_PROGS): $(OUT)/tests/mount/%: tests/mount/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -O1 -g $(WARN) -pthread -o $@ $<
tests all: $(MOUNT_PROGS)

FSX_OPS ?= 1000000
.PHONY: check-fsx check-programs check-long
check-fsx: all ## FSX_OPS (a million) random operations on vec/, against a model; SEED=
	$(Q)env $(TEST_ENV) FSX_OPS=$(FSX_OPS) FSX_RESTARTS=20 bats --tap tests/mount/fsx.bats
check-programs: all ## ordinary programs on the mount, with ls -l of 100,000 records
	$(Q)env $(TEST_ENV) LS_ALL=1 bats --tap tests/mount/programs_*.bats
check-long: check-fsx check-programs
