LIB_SRCS += $(addprefix lib/simd/,simd.c kernels_scalar.c kernels_sse4.c kernels_avx2.c \
	kernels_avx512.c kernels_neon.c)

# Only these files may use more than the ABI's floor: simd.c asks the CPU before it calls them.
ifeq ($(shell uname -m),x86_64)
CFLAGS_lib_simd_kernels_sse4 := -O3 -msse4.1
CFLAGS_lib_simd_kernels_avx2 := -O3 -mavx2 -mfma
CFLAGS_lib_simd_kernels_avx512 := -O3 -mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl \
	-mavx512vnni
CFLAGS_lib_simd_kernels_neon := -O3 -Wno-undef
endif
