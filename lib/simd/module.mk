SIMD_SRCS := $(addprefix lib/simd/,simd.c kernels_scalar.c kernels_sse4.c kernels_avx2.c \
	kernels_avx512.c kernels_avx512_popcnt.c kernels_neon.c)
LIB_SRCS += $(SIMD_SRCS)

# Products and sums of the float kernels may be fused where the CPU can: the rounding that it saves is
# within their error bound.
SIMD_OPT := -O3
# Sanitizers make these unrolled functions huge, and minutes long to compile.  ASan and TSan check them
# with less optimizing and without UBSan (which has kernels_scalar.c, the specification); the fuzzers are
# about parsers.
SIMD_OPT_asan := -O1 -fno-sanitize=undefined
SIMD_OPT_tsan := -O1
SIMD_OPT_fuzz := -O1 -fno-sanitize=all
SIMD_CFLAGS := $(or $(SIMD_OPT_$(VARIANT)),$(SIMD_OPT)) -ffp-contract=fast
# Only these files may use more than the ABI's floor: simd.c asks the CPU before it calls them.
ifeq ($(shell uname -m),x86_64)
CFLAGS_lib_simd_kernels_sse4 := $(SIMD_CFLAGS) -msse4.1
CFLAGS_lib_simd_kernels_avx2 := $(SIMD_CFLAGS) -mavx2 -mfma -mf16c
CFLAGS_lib_simd_kernels_avx512 := $(SIMD_CFLAGS) -mavx2 -mfma -mf16c -mavx512f -mavx512bw \
	-mavx512dq -mavx512vl -mavx512vnni
CFLAGS_lib_simd_kernels_avx512_popcnt := $(CFLAGS_lib_simd_kernels_avx512) -mavx512vpopcntdq
endif
CFLAGS_lib_simd_kernels_neon := $(SIMD_CFLAGS) -Wno-undef
