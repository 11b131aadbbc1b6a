SIMD_TESTS := test_kernels test_shapes test_half test_codes
TESTS += $(SIMD_TESTS:%=simd/%)
TEST_COMMON_simd += tests/simd/common.c
