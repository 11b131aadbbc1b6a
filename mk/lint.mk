# mk/lint.mk: what can be said without running anything.
#
# Compiler passes leave a stamp per file in $(LINT), with its dependencies, so that a second run
# looks only at what changed.  Every item counts as one test.
LINT := $(O)/lint
C_FILES = $(sort $(shell find lib daemon cli tests fuzz bench -name '*.[ch]'))
SH_FILES = $(sort $(wildcard demo check .ci/run cli/mount.vecfs scripts/*.sh bench/*.sh tests/*/*.sh tests/*/*.bash))
LINT_SRCS = $(sort $(LIB_SRCS) $(DAEMON_SRCS) $(CLI_COMMON_SRCS) $(CLI_PROGS:%=cli/%.c) $(BENCH_SRCS))
TEST_SRCS = $(sort $(wildcard tests/*/*.c))
FUZZ_SRCS = $(FUZZERS:%=fuzz/fuzz_%.c)
ALL_SRCS = $(LINT_SRCS) $(TEST_SRCS) $(FUZZ_SRCS)
HEADERS = $(filter %.h,$(filter lib/% daemon/% cli/%,$(C_FILES)))

lint_flags = -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DVECFS_VERSION='"$(VERSION)"' $(WARN) \
	-Ilib -I. -I$(OUT)/gen $(PKG_CFLAGS) $(CFLAGS_$(subst /,_,$(basename $(1))))

# clang warns from its front end: no need to generate code.  gcc's flow warnings need the optimizer.
$(LINT)/%.clang: % $(GEN_HDRS)
	@mkdir -p $(@D)
	$(Q)clang -fsyntax-only -Werror -Wthread-safety -Wno-unknown-warning-option \
		-MMD -MP -MF $@.d -MT $@ $(call lint_flags,$<) $<
	@touch $@
$(LINT)/%.gcc: % $(GEN_HDRS)
	@mkdir -p $(@D)
	$(Q)gcc -O2 -Werror -S -o /dev/null -MMD -MP -MF $@.d -MT $@ $(call lint_flags,$<) $<
	@touch $@
$(LINT)/%.tidy: % $(GEN_HDRS) .clang-tidy
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- $(call lint_flags,$<) >$@.out 2>&1 || \
		{ grep -v 'warnings\? generated' $@.out; exit 1; }
	@touch $@
# A header compiles by itself, twice over, under both compilers.
$(LINT)/%.hdr: % $(GEN_HDRS)
	@mkdir -p $(@D)
	$(Q)for cc in gcc clang; do printf '#include "%s"\n#include "%s"\n' $< $< | \
		$$cc -fsyntax-only -Werror -x c $(call lint_flags,$<) -MMD -MP -MF $@.d -MT $@ \
		-Wno-unused-function - || exit 1; done
	@touch $@

.PHONY: lint lint-clang lint-gcc lint-tidy lint-headers lint-clang-format lint-cppcheck lint-tree \
	lint-man lint-shell lint-mandoc lint-symbols format
lint-clang: $(ALL_SRCS:%=$(LINT)/%.clang)
lint-gcc: $(ALL_SRCS:%=$(LINT)/%.gcc)
lint-tidy: $(LINT_SRCS:%=$(LINT)/%.tidy)
lint-headers: $(HEADERS:%=$(LINT)/%.hdr)
lint-clang-format:
	$(Q)printf '%s\n' $(C_FILES) | xargs -P $(JOBS) -n 16 clang-format --dry-run -Werror
# Findings that are matters of opinion, or that the compilers know better, are off.
lint-cppcheck:
	@mkdir -p $(LINT)/cppcheck
	$(Q)cppcheck -q -j $(JOBS) --cppcheck-build-dir=$(LINT)/cppcheck --std=c11 --error-exitcode=1 \
		--enable=warning,portability --inline-suppr --max-configs=1 -D_GNU_SOURCE -D__linux__ \
		-D__x86_64__ -Ilib -I. -I$(OUT)/gen --suppressions-list=mk/cppcheck.supp $(LINT_SRCS)
lint-shell:
	$(Q)shellcheck $(SH_FILES)
# Errors belong to the mount, and the mount to section 7.
lint-mandoc:
	$(Q)out=$$(mandoc -T lint -W warning $(MAN_PAGES) | grep -v 'man/vecfs.7.*section: Sh ERRORS'); \
		[ -z "$$out" ] || { echo "$$out"; exit 1; }
lint-man: all
	$(Q)scripts/lint-man.sh $(BIN) man
lint-tree:
	$(Q)printf '%s\n' $(LINT_SRCS) $(TESTS:%=tests/%.c) $(foreach m,$(CHECK_MODULES),$(TEST_COMMON_$(m))) \
		$(FUZZ_SRCS) $(CRASH_SRCS) $(BENCH_OBJS:$(OUT)/%.o=%.c) $(BENCH_KERNELS_SRCS) | scripts/lint-tree.sh

# One name, one thing: the linker is silent about two of a name as long as nothing needs both.
lint-symbols: $(LIB) $(DAEMON_OBJS)
	$(Q)twice=$$(nm -g --defined-only $(LIB) $(DAEMON_OBJS) 2>/dev/null | \
		awk 'NF == 3 && $$2 ~ /[TDBRC]/ { print $$3 }' | sort | uniq -d); \
		[ -z "$$twice" ] || { echo "defined twice:" $$twice; exit 1; }

lint_sub = '$(1)=$(MAKE) --no-print-directory -k -s JOBS=$(JOBS) lint-$(1)'
lint: $(GEN_HDRS) all ## format, layers, headers, both compilers, clang-tidy, cppcheck, scripts, manual pages
	+$(Q)$(call run_tests,1,'layers=scripts/lint-includes.sh' 'words=scripts/lint-words.sh' \
		$(foreach i,tree clang-format shell mandoc man symbols headers clang gcc tidy cppcheck, \
		$(call lint_sub,$(i))) $(wildcard tests/lint/*.bats),-l $(LINT)/log)

format: ## clang-format everything in place
	$(Q)clang-format -i $(C_FILES)

-include $(wildcard $(addprefix $(LINT)/,$(addsuffix .d,$(ALL_SRCS:%=%.clang) $(ALL_SRCS:%=%.gcc) \
	$(LINT_SRCS:%=%.tidy) $(HEADERS:%=%.hdr))))
