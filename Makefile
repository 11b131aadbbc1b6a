# vecfs: one make process; every directory adds its lists in a module.mk.
#
#   make                 the daemon and the tools (build/release/bin)
#   make check           every test (make help lists the parts)
#   make VARIANT=asan    another build: release debug asan tsan cov fuzz
#   make V=1             show the commands
#   make MODULES="base wal" check-wal     one module and its tests alone
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SUFFIXES:
.DEFAULT_GOAL := all

VERSION := 0.1.0
VARIANT ?= release
O ?= build
OUT := $(O)/$(VARIANT)
BIN := $(OUT)/bin
PREFIX ?= /usr/local
DESTDIR ?=
CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
AR := ar
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
	-Wundef -fno-common
ifdef WERROR
WARN += -Werror
endif

OPT_release := -O2 -g
OPT_debug := -O0 -g -DVX_DEBUG
OPT_asan := -O1 -g -DVX_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-fno-omit-frame-pointer
OPT_tsan := -O1 -g -DVX_DEBUG -fsanitize=thread -fno-omit-frame-pointer
OPT_cov := -O0 -g --coverage
OPT_fuzz := -O1 -g -DVX_DEBUG -fsanitize=address,undefined,fuzzer-no-link \
	-fno-sanitize-recover=undefined
ifeq ($(VARIANT),fuzz)
CC := clang
endif

PKGS := libuv sqlite3 liburing libxxhash raft jansson libzstd libprotobuf-c fuse3 libcurl
# Recursive on purpose: pkg-config runs only for a target that compiles, so
# 'make help' or 'make clean' work on a machine with nothing installed.
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(shell pkg-config --cflags $(PKGS)))$(PKG_CFLAGS)
PKG_LIBS = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)) -linih)$(PKG_LIBS)

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DVECFS_VERSION='"$(VERSION)"' \
	$(OPT_$(VARIANT)) $(WARN) -Ilib -I. -I$(OUT)/gen -MMD -MP $(PKG_CFLAGS) $(CFLAGS)
# --as-needed: a tool that speaks to the socket does not load SQLite and libfuse.
ALL_LDFLAGS = $(OPT_$(VARIANT)) -Wl,--as-needed $(LDFLAGS)
ALL_LIBS = $(PKG_LIBS) -lm -lpthread $(LIBS)

# --- lists -----------------------------------------------------------------
MODULES ?= base simd codec embed wal rpc client raft hnsw index store query cluster
LIB_SRCS :=
DAEMON_SRCS :=
CLI_COMMON_SRCS :=
CLI_PROGS :=
TESTS :=
GEN_HDRS :=
GEN_SRCS :=
include $(foreach m,$(MODULES),$(wildcard lib/$(m)/module.mk))
include $(wildcard proto/module.mk daemon/module.mk cli/module.mk)
include $(foreach m,$(MODULES),$(wildcard tests/$(m)/module.mk))
include $(if $(filter raft,$(MODULES)),$(wildcard tests/sim/module.mk))
include $(wildcard tests/module.mk tests/daemon/module.mk tests/mount/module.mk \
	tests/cli/module.mk tests/limits/module.mk fuzz/module.mk bench/module.mk bench/kernels.mk man/module.mk)

LIB := $(OUT)/libvecfs.a
LIB_OBJS := $(LIB_SRCS:%.c=$(OUT)/%.o) $(GEN_SRCS:%.c=%.o)
DAEMON_OBJS := $(DAEMON_SRCS:%.c=$(OUT)/%.o)
CLI_COMMON_OBJS := $(CLI_COMMON_SRCS:%.c=$(OUT)/%.o)
TEST_BINS := $(TESTS:%=$(OUT)/tests/%)

.PHONY: all lib clean
all: $(if $(DAEMON_SRCS),$(BIN)/vecfsd) $(CLI_PROGS:%=$(BIN)/%) ## the daemon and the tools, in $(OUT)/bin
lib: $(LIB)

$(OUT)/%.o: %.c $(GEN_HDRS)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(CFLAGS_$(subst /,_,$(basename $<))) -c -o $@ $<

$(OUT)/gen/%.o: $(OUT)/gen/%.c
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -w -c -o $@ $<

$(LIB): $(LIB_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJS)

$(BIN)/vecfsd: $(DAEMON_OBJS) $(LIB)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(DAEMON_OBJS) $(LIB) $(DAEMON_LIBS) $(ALL_LIBS)

$(CLI_PROGS:%=$(BIN)/%): $(BIN)/%: $(OUT)/cli/%.o $(CLI_COMMON_OBJS) $(LIB)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $< $(CLI_COMMON_OBJS) $(LIB) $(ALL_LIBS)

# A test is tests/MODULE/test_NAME.c; what it shares lies in TEST_COMMON_MODULE.  (Functions, because a '%'
# written in a prerequisite would be taken for the rule's own.)
test_common = $(patsubst %.c,$(OUT)/%.o,$(TEST_COMMON_$(firstword $(subst /, ,$(1)))))
module_bins = $(filter $(OUT)/tests/$(1)/%,$(TEST_BINS))
# What test_oom is linked with: the library's own allocations go through tests/wal/oom.c.
OOM_LIB := $(OUT)/libvecfs-oom.a
OOM_CALLS := malloc calloc realloc reallocarray aligned_alloc strdup strndup asprintf raft_malloc raft_calloc raft_realloc
$(OOM_LIB): $(LIB)
	$(call say,OBJCOPY,$@)
	$(Q)objcopy $(foreach c,$(OOM_CALLS),--redefine-sym $(c)=oom_$(c)) $< $@
lib_of = $(if $(filter test_oom,$(notdir $(1))),$(OOM_LIB),$(LIB))
.SECONDEXPANSION:
$(TEST_BINS): $(OUT)/tests/%: $(OUT)/tests/%.o $$(call test_common,$$*) $$(call lib_of,$$*)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(call lib_of,$@) -lcmocka $(ALL_LIBS)

# check-MODULE: the C tests of one module.
CHECK_MODULES := $(sort $(foreach t,$(TESTS),$(firstword $(subst /, ,$(t)))))
.PHONY: $(CHECK_MODULES:%=check-c-%)
$(CHECK_MODULES:%=check-c-%): check-c-%: $$(call module_bins,$$*)
	$(Q)for t in $^; do printf '  TEST    %s\n' "$$t"; \
		VECFS_TEST_DATA=tests/data "$$t" || exit 1; done

.PHONY: demo help dist
demo: ## a tour on a private directory, from build to answers; leaves nothing behind
	$(Q)O=$(O) ./demo

dist: ## a source archive of the last commit
	$(Q)mkdir -p $(O) && git archive --prefix=vecfs-$(VERSION)/ \
		-o $(O)/vecfs-$(VERSION).tar.gz HEAD && echo $(O)/vecfs-$(VERSION).tar.gz

clean: ## remove the build directory
	rm -rf $(O)

include mk/sim.mk mk/check.mk mk/crash.mk mk/neon.mk mk/fuzz.mk mk/install.mk mk/lint.mk

help: ## this text
	@printf 'make [VARIANT=release|debug|asan|tsan|cov|fuzz] [O=build] [V=1] [WERROR=1] TARGET\n\n'
	@sed -n 's/^\([a-z-]*\):[^=].*## /\1\t/p' Makefile mk/*.mk $(wildcard */module.mk tests/limits/module.mk bench/kernels.mk) | \
		awk -F '\t' '{ printf "  %-22s %s\n", $$1, $$2 }'

-include $(LIB_OBJS:.o=.d) $(DAEMON_OBJS:.o=.d) $(CLI_COMMON_OBJS:.o=.d) \
	$(CLI_PROGS:%=$(OUT)/cli/%.d) $(TEST_BINS:=.d) \
	$(foreach m,$(CHECK_MODULES),$(TEST_COMMON_$(m):%.c=$(OUT)/%.d))
