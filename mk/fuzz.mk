# mk/fuzz.mk: libFuzzer with ASan and UBSan, clang's (VARIANT=fuzz).
#
# fuzz-long gives every target FUZZ_RUNS executions, JOBS targets at a time, and stops one early only where
# FUZZ_SECONDS says so (0: never); then it prints executions and rate of each.
#
# New inputs go to $(OUT)/corpus, never into the tree; a crash goes to $(OUT)/crash, and from there,
# by hand, with a fix, to tests/data/fuzz/NAME, where every later run tries it again.
FUZZ_BINS := $(FUZZERS:%=$(OUT)/fuzz/fuzz_%)
FUZZ_PLANTS ?= $(sort $(wildcard fuzz/plants/*.patch))
FUZZ_PLANT_SECONDS ?= 120

# The log's fuzzers run over the fake disk of its tests.
fuzz_extra = $(if $(shell grep -l wal_layout fuzz/fuzz_$(1).c),$(OUT)/tests/wal/fakedisk.o)

$(FUZZ_BINS): $(OUT)/fuzz/fuzz_%: $(OUT)/fuzz/fuzz_%.o $$(call fuzz_extra,$$*) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $(filter %.o,$^) $(LIB) $(ALL_LIBS)

# $(call fuzz_item,NAME,OPTIONS): one test of run-tests.sh.  A small quarantine keeps freed memory in the caches.
# (A finding's status would be 77 by default, which run-tests.sh takes for a skip.)
fuzz_item = 'fuzz-$(1)=mkdir -p $(OUT)/corpus/$(1) $(OUT)/crash && \
	ASAN_OPTIONS=$$ASAN_OPTIONS:quarantine_size_mb=8 $(OUT)/fuzz/fuzz_$(1) $(2) \
	-error_exitcode=1 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix=$(OUT)/crash/$(1)- \
	$(OUT)/corpus/$(1) $(wildcard fuzz/corpus/$(1) tests/data/fuzz/$(1))'
fuzz_limit = $(if $(filter-out 0,$(FUZZ_SECONDS)),-max_total_time=$(FUZZ_SECONDS))
# What each of them did, from its log.
fuzz_table = for f in $(FUZZERS); do awk -v f=$$f \
	'/number_of_executed_units/ { n = $$2 } /average_exec_per_sec/ { r = $$2 } \
	END { printf "  %-14s %9d executions %8d per second\n", f, n, r }' $(OUT)/log/fuzz-fuzz-$$f.log; done

.PHONY: fuzzers fuzz-quick fuzz-long fuzz-find fuzz-variant
fuzz-variant:
	@[ $(VARIANT) = fuzz ] || { echo "fuzzers are built with VARIANT=fuzz: make fuzz" >&2; exit 2; }
fuzzers: fuzz-variant $(FUZZ_BINS)
fuzz-quick: fuzzers
	+$(Q)$(call run_tests,1,$(foreach f,$(FUZZERS),$(call fuzz_item,$(f),-runs=20000 -max_total_time=15 -seed=1)))
fuzz-long: fuzzers
	+$(Q)rc=0; $(call run_tests,1,$(foreach f,$(FUZZERS),$(call fuzz_item,$(f),-runs=$(FUZZ_RUNS) $(fuzz_limit))),-t 86400) || rc=1; \
	$(fuzz_table); exit $$rc
fuzz-find: fuzz-variant $(LIB) $(OUT)/tests/wal/fakedisk.o
	$(Q)fuzz/plants.sh $(OUT) '$(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS))' '$(ALL_LDFLAGS)' $(LIB) '$(ALL_LIBS)' \
		$(FUZZ_PLANT_SECONDS) $(FUZZ_PLANTS)

-include $(FUZZ_BINS:=.d)
