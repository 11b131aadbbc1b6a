# mk/check.mk: running the tests.
#
# C tests come from the TESTS lists, bats files from tests/MODULE/*.bats.  Everything goes through
# scripts/run-tests.sh, whose results lie in $(OUT)/log and are summed by 'make check'.

JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_RUNS ?= 1000000
FUZZ_SECONDS ?= 0
CRASH_CYCLES ?= 500
KILLS ?= 1000

CHECK_STORE := base wal raft sim store cluster
CHECK_SEARCH := simd index hnsw query
CHECK_MOUNT := daemon mount limits supervise
# What nobody claimed goes with the tools, so that no test can be forgotten.
CHECK_TOOLS := cli $(filter-out $(CHECK_STORE) $(CHECK_SEARCH) $(CHECK_MOUNT) cli,$(CHECK_MODULES))

bins_of = $(filter $(foreach m,$(1),$(OUT)/tests/$(m)/%),$(TEST_BINS))
bats_of = $(sort $(foreach m,$(1),$(wildcard tests/$(m)/*.bats)))
# C tests that ask for a number of shards, and therefore run with four as well.
sharded = $(strip $(foreach b,$(1),$(if $(shell grep -l VECFS_TEST_SHARDS $(b:$(OUT)/%=%.c) 2>/dev/null),$(b))))

TEST_ENV = VECFS_TEST_DATA=$(abspath tests/data) VECFS_BIN=$(abspath $(BIN)) \
	VECFS_VARIANT=$(VARIANT) PATH="$(abspath $(BIN)):$$PATH" \
	ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1 \
	UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	LSAN_OPTIONS=print_suppressions=0:suppressions=$(abspath tests/lsan.supp) \
	TSAN_OPTIONS=halt_on_error=1:die_after_fork=0:second_deadlock_stack=1:suppressions=$(abspath tests/tsan.supp)
# TSan's shadow wants the old layout of the address space; some containers refuse to give it.
TEST_WRAP_tsan = $(shell setarch -R true 2>/dev/null && echo setarch -R)
# $(call run_tests,SHARDS,ITEMS,OPTIONS)
test_label = $(filter-out release,$(VARIANT))$(if $(filter-out 1,$(1)),$(if $(filter-out release,$(VARIANT)),-)shards$(1))
run_tests = env $(TEST_ENV) VECFS_TEST_SHARDS=$(1) $(TEST_WRAP_$(VARIANT)) \
	scripts/run-tests.sh -j $(JOBS) -t $(if $(filter release,$(VARIANT)),300,900) -l $(OUT)/log $(if $(test_label),-p $(test_label)) $(3) $(2)

# $(call check,ITEMS,SHARDED): the items with one shard, those of SHARDED again with four; all of
# them, whatever fails on the way.
check = +$(Q)rc=0; $(if $(strip $(1)),$(call run_tests,1,$(1)) || rc=1;) \
	$(if $(strip $(2)),$(call run_tests,4,$(2)) || rc=1;) exit $$rc
check_modules = $(call check,$(call bins_of,$(1)) $(call bats_of,$(1)),$(call sharded,$(call bins_of,$(1))) $(call bats_of,$(1)))

.PHONY: tests check check-store check-search check-mount check-tools check-c check-bats \
	check-sanitize check-sanitize-short check-crash fuzz fuzz-plants fuzz-short coverage coverage-branches coverage-wal

tests: $(TEST_BINS) ## build the C tests

check: ## every test: lint, unit tests, mount, tools, fuzzers, sanitizers
	+$(Q)MAKE="$(MAKE)" scripts/check-all.sh $(O) all tests lint check-store check-search \
		check-neon check-tools check-mount check-crash-short fuzz-short check-sanitize-short

check-store: $(call bins_of,$(CHECK_STORE)) $(SIM_BIN) ## log, Raft, simulator, store, catalog
	$(call check,$(call bins_of,$(CHECK_STORE)) $(call bats_of,$(CHECK_STORE)) $(SIM_ITEM),\
		$(call sharded,$(call bins_of,$(CHECK_STORE))) $(call bats_of,$(CHECK_STORE)))
check-search: $(call bins_of,$(CHECK_SEARCH)) ## kernels, index, graph
	$(call check_modules,$(CHECK_SEARCH))
check-mount: all $(call bins_of,$(CHECK_MOUNT)) ## the daemon and the mount, with 1 and with 4 shards
	$(call check_modules,$(CHECK_MOUNT))
check-tools: all $(call bins_of,$(CHECK_TOOLS)) ## codecs, embedder, protocol and tools, with 1 and with 4 shards
	$(call check_modules,$(CHECK_TOOLS))

# TSan itself ends a child that makes threads after one of its calls was refused memory ("dup thread with used id").
NOT_tsan := cluster/test_oom
check-c: $(TEST_BINS) ## every C test (of this VARIANT)
	$(call check,$(filter-out $(NOT_$(VARIANT):%=$(OUT)/tests/%),$(TEST_BINS)))
# What takes minutes under TSan for the sake of arithmetic, while the races it could find are
# looked for by quicker tests, is left to the long form.
SLOW_tsan := cluster/test_churn cluster/test_oom cluster/test_quota hnsw/test_precision hnsw/test_recall index/test_search \
	raft/test_oom sim/test_replay wal/test_recover
.PHONY: check-c-short
check-c-short: $(TEST_BINS)
	$(call check,$(filter-out $(SLOW_$(VARIANT):%=$(OUT)/tests/%),$(TEST_BINS)))
check-bats: all ## every bats file (of this VARIANT)
	$(call check,$(call bats_of,$(CHECK_MOUNT) cli),$(call bats_of,$(CHECK_MOUNT) cli))

# The short form runs the C tests; the long one the mount and the tools as well.
check-sanitize-short: ## the C tests under ASan + UBSan and under TSan
	+$(Q)rc=0; for v in asan tsan; do \
		$(MAKE) --no-print-directory VARIANT=$$v check-c-short || rc=1; done; exit $$rc
check-sanitize: ## that without shortcuts, and the mount and the tools against an ASan daemon
	+$(Q)rc=0; for v in asan tsan; do \
		$(MAKE) --no-print-directory VARIANT=$$v check-c || rc=1; done; \
		$(MAKE) --no-print-directory VARIANT=asan check-bats || rc=1; exit $$rc

# valgrind knows no AVX-512, and is too slow for what is arithmetic; the sanitizers have those.
SLOW_valgrind := $(SLOW_tsan) cluster/test_crash cluster/test_txn cluster/test_snapshot cluster/test_threads hnsw/test_graph \
	index/test_checkpoint raft/test_kill raft/test_pump $(SIMD_TESTS:%=simd/%) store/test_compact store/test_rot store/test_threads store/test_txn
# A child that ends in the midst of things has its memory still; leaks of such tests are LSan's.
VALGRIND := env VECFS_SIMD=avx2 valgrind -q --error-exitcode=9 --fair-sched=yes --suppressions=tests/valgrind.supp
valgrind_leaks = $(if $(shell grep -l 'fork()' $(1:$(OUT)/%=%.c)),,--leak-check=full --errors-for-leak-kinds=definite \
	--show-leak-kinds=definite)
.PHONY: check-valgrind
check-valgrind: $(TEST_BINS) ## the C tests under valgrind, but for those that would take hours
	+$(Q)$(call run_tests,1,$(foreach t,$(filter-out $(SLOW_valgrind:%=$(OUT)/tests/%),$(TEST_BINS)),\
		'valgrind-$(patsubst $(OUT)/tests/%,%,$(t))=$(VALGRIND) $(call valgrind_leaks,$(t)) $(t)'),-t 1800)

# These count what is done in a time, or look beside the programs for others.
SLOW_valgrind_bats := cli/test_bench mount/lifecycle
.PHONY: check-valgrind-daemon
check-valgrind-daemon: TEST_ENV := $(subst $(abspath $(BIN)),$(abspath $(OUT)/valgrind/bin),$(TEST_ENV))
check-valgrind-daemon: all ## the mount and the tools against a daemon under valgrind
	$(Q)tests/valgrind.sh $(BIN) $(OUT)/valgrind
	+$(Q)rc=0; $(call run_tests,1,$(filter-out $(SLOW_valgrind_bats:%=tests/%.bats),$(call bats_of,daemon mount cli)),-t 1800) || rc=1; \
		tests/valgrind.sh -r $(OUT)/valgrind || rc=1; exit $$rc

check-crash: all $(filter %/cluster/test_crash,$(TEST_BINS)) ## kill -9 under load, CRASH_CYCLES times: nothing acknowledged is lost
	$(Q)env $(TEST_ENV) CRASH_CYCLES=$(CRASH_CYCLES) tests/crash/run.sh $(CRASH_CYCLES)

.PHONY: check-supervise check-supervise-plants
check-supervise: all ## the supervised daemon is killed KILLS times under programs that must not notice
	$(Q)env $(TEST_ENV) tests/supervise/storm.py $(KILLS)
check-supervise-plants: all ## bugs planted in what survives a death are found
	$(Q)env $(TEST_ENV) COMPILE='$(CC) $(ALL_CFLAGS)' LINK='$(CC) $(ALL_LDFLAGS)' \
		OBJS='$(DAEMON_OBJS)' LIBS='$(LIB) $(DAEMON_LIBS) $(ALL_LIBS)' \
		tests/supervise/plants.sh $(OUT)/daemon

fuzz: ## every fuzzer, FUZZ_RUNS executions (1000000) each, at most FUZZ_SECONDS (0: no limit)
	+$(Q)$(MAKE) --no-print-directory VARIANT=fuzz fuzz-long
fuzz-plants: ## checks taken out of decoders, one by one: their fuzzers find it
	+$(Q)$(MAKE) --no-print-directory VARIANT=fuzz fuzz-find
fuzz-short: ## every fuzzer for a few seconds, over its corpus and the kept crashes
	+$(Q)$(MAKE) --no-print-directory VARIANT=fuzz fuzz-quick

coverage: ## line coverage of the C tests, by file; branches of the log and of Raft, at least COVERAGE_BRANCHES (95) per cent
	+$(Q)$(MAKE) --no-print-directory VARIANT=cov check-c
	+$(Q)$(MAKE) --no-print-directory VARIANT=cov coverage-sim
	$(Q)gcovr -r . --object-directory $(O)/cov -e 'tests/' -e '$(O)/' -s
	+$(Q)$(MAKE) --no-print-directory coverage-branches

# What can only be an error of the programmer's (assert) has no second branch to take.
COVERAGE_BRANCHES ?= 95
COVERAGE_SEEDS ?= 40
COVERED := wal raft
# Each directory is held by itself.
.PHONY: coverage-raft coverage-sim
.PHONY: $(COVERED:%=coverage-branches-%)
$(COVERED:%=coverage-branches-%): coverage-branches-%:
	$(Q)gcovr -r . --object-directory $(O)/cov -f 'lib/$*/' --branches --exclude-unreachable-branches \
		--exclude-throw-branches --exclude-lines-by-pattern '.*assert\(.*' \
		--fail-under-branch $(COVERAGE_BRANCHES)
coverage-branches:
	+$(Q)rc=0; for d in $(COVERED); do \
		$(MAKE) --no-print-directory coverage-branches-$$d || rc=1; done; exit $$rc
# The log alone, in some minutes.
coverage-wal: ## branch coverage of lib/wal
	+$(Q)$(MAKE) --no-print-directory VARIANT=cov check-c-wal
	+$(Q)$(MAKE) --no-print-directory coverage-branches-wal
coverage-sim: $(SIM_BIN)
	$(Q)SEED=1 SEEDS=$(COVERAGE_SEEDS) JOBS=$(JOBS) $(SIM_BIN)
coverage-raft: ## branch coverage of lib/raft, by its tests and some seeds of the simulator
	+$(Q)$(MAKE) --no-print-directory VARIANT=cov check-c-raft coverage-sim
	+$(Q)$(MAKE) --no-print-directory coverage-branches-raft
