TESTS += simd/test_kernels
