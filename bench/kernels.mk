# make bench-kernels [BENCH_ARGS="--tables=avx512,avx2"]: one distance, hot and cold, beside the machine's limits.
BENCH_KERNELS_SRCS := bench/kernels.c
$(BIN)/bench-kernels: $(BENCH_KERNELS_SRCS:%.c=$(OUT)/%.o) $(OUT)/libvecfs.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(ALL_LIBS)

.PHONY: bench-kernels
bench-kernels: $(BIN)/bench-kernels ## ns per distance of every kernel, hot and cold, beside the machine's limits
	$(Q)$(BIN)/bench-kernels $(BENCH_ARGS)
-include $(OUT)/bench/kernels.d
