/* kernels_avx512_popcnt.c - the 512-bit kernels once more, for CPUs that have VPOPCNTDQ too. */
/* NOLINTNEXTLINE(bugprone-suspicious-include): the same text, another instruction set */
#include "simd/kernels_avx512.c"
