# mk/neon.mk: the kernel tests as an ARM machine runs them.
#
# On x86 the NEON table goes through SIMDe's translation; here lib/simd and its tests are compiled for
# aarch64, where the same source is native NEON, and run under qemu's user emulation.  cmocka is not
# there for that architecture: tests/simd/shim stands in, the checks are the same.  On an aarch64
# machine the ordinary tests already are this one.
NEON_CC ?= aarch64-linux-gnu-gcc
NEON_QEMU ?= $(or $(shell command -v qemu-aarch64 2>/dev/null),qemu-aarch64-static)
NEON_OUT := $(O)/neon
NEON_CFLAGS := -std=c11 -D_GNU_SOURCE -O2 -g $(WARN) -Itests/simd/shim -Ilib -I. -MMD -MP
NEON_OBJS := $(SIMD_SRCS:%.c=$(NEON_OUT)/%.o) $(NEON_OUT)/tests/simd/common.o
NEON_BINS := $(SIMD_TESTS:%=$(NEON_OUT)/%)
NEON_WANT := gcc-aarch64-linux-gnu, libc6-dev-arm64-cross and qemu-user (scripts/deps.sh check)
NEON_HAVE = $(shell command -v $(NEON_CC) >/dev/null 2>&1 && command -v $(NEON_QEMU) >/dev/null 2>&1 && echo yes)

$(NEON_OUT)/%.o: %.c
	$(call say,NEONCC,$<)
	@mkdir -p $(@D)
	$(Q)$(NEON_CC) $(NEON_CFLAGS) $(filter -O3 -f% -W%,$(CFLAGS_$(subst /,_,$(basename $<)))) -c -o $@ $<

.SECONDARY: $(NEON_OBJS) $(SIMD_TESTS:%=$(NEON_OUT)/tests/simd/%.o)
# Static, so that the emulator needs no libraries of the other architecture.
$(NEON_BINS): $(NEON_OUT)/%: $(NEON_OUT)/tests/simd/%.o $(NEON_OBJS)
	$(call say,NEONLD,$@)
	$(Q)$(NEON_CC) -static -o $@ $^ -lm

.PHONY: check-neon
ifeq ($(shell uname -m),aarch64)
check-neon: check-c-simd
else
check-neon: $(if $(NEON_HAVE),$(NEON_BINS)) ## the kernels compiled for ARM, under qemu
	$(call check,$(if $(NEON_HAVE),$(foreach t,$(SIMD_TESTS),'neon-$(t)=$(NEON_QEMU) $(NEON_OUT)/$(t)'),\
		'neon=echo "needs $(NEON_WANT)"; exit 77'))
endif

-include $(NEON_OBJS:.o=.d) $(SIMD_TESTS:%=$(NEON_OUT)/tests/simd/%.d)
