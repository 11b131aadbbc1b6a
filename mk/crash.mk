# mk/crash.mk: crashes, power cuts, rot, faults and want of memory.
#
# Each harness has a short form, which 'make check' runs through check-crash-short, and a long one of its own.
# tests/crash/*.py drive the real daemon; what they need beside it is built here.
CUTS ?= 1000
CYCLES ?= 10000
CRASH_SRCS := $(addprefix tests/crash/,powerdisk.c nosync.c fault.c steady.c nouring.c)
CRASH_OUT := $(OUT)/tests/crash
CRASH_PROGS := $(CRASH_OUT)/powerdisk $(CRASH_OUT)/nosync.so $(CRASH_OUT)/fault.so $(CRASH_OUT)/steady.so \
	$(CRASH_OUT)/nouring

$(CRASH_OUT)/powerdisk: tests/crash/powerdisk.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -o $@ $< $$(pkg-config --cflags --libs fuse3)
$(CRASH_OUT)/%.so: tests/crash/%.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -shared -fPIC -o $@ $<
$(CRASH_OUT)/nouring: tests/crash/nouring.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -o $@ $<

crash_py = PYTHONDONTWRITEBYTECODE=1 VECFS_CRASH_BIN=$(abspath $(CRASH_OUT)) python3 tests/crash/$(1)

.PHONY: check-crash-short check-power check-kill check-faults check-syscalls check-syscalls-plants check-rot \
	check-rot-plants check-no-uring check-long
check-crash-short: all $(CRASH_PROGS) ## power cuts, kills and faults at the n-th call: the short forms
	$(call check,'power-ext4=$(call crash_py,power.py 6 --fast)' \
		'power-xfs=$(call crash_py,power.py 4 --fast --fs xfs)' \
		'power-planted-log=$(call crash_py,power.py 40 --fast --no-sync .wal)' \
		'power-planted-store=$(call crash_py,power.py 40 --fast --no-sync meta.db)' \
		'stray=$(call crash_py,stray.py)' \
		'unsynced-vectors=$(call crash_py,unsynced.py)' \
		'unsynced-sqlite=$(call crash_py,unsynced.py --file sqlite)' \
		'unsynced-catalog=$(call crash_py,unsynced.py --file catalog)' \
		'faults=$(call crash_py,faults.py --step 23 --kinds EIO,ENOSPC,KILL)' \
		'faults-first=$(call crash_py,faults.py --step 3 --kinds FIRST)' \
		'syscalls=$(call crash_py,syscalls.py --step 17)')

check-power: all $(CRASH_PROGS) ## CUTS (1000) power cuts under the daemon, on ext4 and on XFS
	$(Q)env $(TEST_ENV) $(call crash_py,power.py $$(($(CUTS) * 7 / 10)))
	$(Q)env $(TEST_ENV) $(call crash_py,power.py $$(($(CUTS) * 3 / 10)) --fs xfs)
	$(Q)set -e; for fs in ext4 xfs; do env $(TEST_ENV) $(call crash_py,stray.py --fs $$fs); \
		for f in vectors sqlite catalog; do env $(TEST_ENV) $(call crash_py,unsynced.py --fs $$fs --file $$f); done; done
	$(Q)env $(TEST_ENV) $(call crash_py,power.py 100 --no-sync .wal)
	$(Q)env $(TEST_ENV) $(call crash_py,power.py 100 --no-sync meta.db)

check-kill: all $(filter %/cluster/test_crash,$(TEST_BINS)) ## CYCLES (10000) kill -9 under load, against a model
	$(Q)env $(TEST_ENV) tests/crash/run.sh $(CYCLES)

check-faults: all $(CRASH_PROGS) ## EIO, ENOSPC and kill -9 at every write and sync of a script, and of a first start
	$(Q)env $(TEST_ENV) $(call crash_py,faults.py)

# JOBS runs at a time.
check-syscalls: all $(CRASH_PROGS) ## kill -9 at every system call of a script that changes a file, by strace
	$(Q)env $(TEST_ENV) $(call crash_py,syscalls.py --jobs $(JOBS))
SYSCALLS_PLANTS ?= $(sort $(wildcard tests/crash/plants/*.patch))
check-syscalls-plants: all $(CRASH_PROGS) ## bugs of order planted in the daemon are found by those kills
	$(Q)env $(TEST_ENV) PYTHONDONTWRITEBYTECODE=1 VECFS_CRASH_BIN=$(abspath $(CRASH_OUT)) \
		tests/crash/plants.sh $(OUT)/crash-plants '$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS))' \
		'$(CC) $(ALL_LDFLAGS)' '$(DAEMON_OBJS) $(LIB) $(DAEMON_LIBS) $(ALL_LIBS)' $(SYSCALLS_PLANTS)

# tests/rot: who flips, in how many processes, and bugs planted in what verifies.
ROT_TESTS := store/test_rot cluster/test_damage cluster/test_snapshot wal/test_recover
ROT_FLIPS_cluster/test_damage := a_flip_in_*
ROT_FLIPS_cluster/test_snapshot := snapshot_flipped_byte_is_refused
ROT_FLIPS_wal/test_recover := flipped_bytes_are_noticed
ROT_PLANTS ?= $(sort $(wildcard tests/rot/plants/*.patch))
check-rot: $(ROT_TESTS:%=$(OUT)/tests/%) ## every byte of every file, flipped
	$(Q)env $(TEST_ENV) tests/rot/all.sh $(JOBS) \
		$(foreach t,$(ROT_TESTS),'$(OUT)/tests/$(t)$(addprefix =,$(ROT_FLIPS_$(t)))')
check-rot-plants: $(ROT_TESTS:%=$(OUT)/tests/%) $(OUT)/tests/wal/test_damage ## bugs planted in what verifies files are found by those flips
	$(Q)env $(TEST_ENV) LIBS="$(ALL_LIBS)" tests/rot/plants.sh $(OUT)/plants \
		'$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS))' '$(CC) $(ALL_LDFLAGS)' $(LIB) $(OUT)/tests $(ROT_PLANTS)

# The suites where the system refuses io_uring, as containers do.
check-no-uring: all $(CRASH_PROGS) $(call bins_of,$(CHECK_STORE)) ## log, store, tools and mount without io_uring
	$(call check,$(foreach t,$(call bins_of,$(CHECK_STORE)),'no-uring-$(t:$(OUT)/tests/%=%)=$(CRASH_OUT)/nouring $(t)') \
		$(foreach t,$(call bats_of,cli $(CHECK_MOUNT)),'no-uring-$(t:tests/%.bats=%)=$(CRASH_OUT)/nouring bats --tap $(t)'))

.PHONY: bench-no-uring
bench-no-uring: all $(CRASH_OUT)/nouring ## writing where io_uring is refused beside writing where it is not
	$(Q)VECFS_BIN=$(abspath $(BIN)) VECFS_CRASH_BIN=$(abspath $(CRASH_OUT)) bench/nouring.sh $(BENCH_ARGS)

check-long: check-power check-kill check-faults check-syscalls check-syscalls-plants check-rot check-rot-plants check-no-uring ## the long forms of everything: hours
