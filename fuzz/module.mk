# Fuzzers: fuzz/fuzz_NAME.c has LLVMFuzzerTestOneInput; its seeds lie in fuzz/corpus/NAME, inputs
# that once crashed it in tests/data/fuzz/NAME.  The rules are in mk/fuzz.mk.
FUZZERS := $(sort $(patsubst fuzz/fuzz_%.c,%,$(wildcard fuzz/fuzz_*.c)))
