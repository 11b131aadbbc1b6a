TESTS += store/test_agree store/test_entry store/test_rot store/test_store store/test_threads store/test_compact store/test_txn
$(OUT)/tests/store/test_agree $(OUT)/tests/store/test_rot $(OUT)/tests/store/test_store: $(OUT)/tests/store/fixture.o
$(OUT)/tests/store/test_compact $(OUT)/tests/store/test_txn: $(OUT)/tests/store/fixture.o
$(OUT)/tests/store/test_threads: $(OUT)/tests/store/fixture.o

# Figures, not a test: OUT/tests/store/measure DIM N DIR.
$(OUT)/tests/store/measure: $(OUT)/tests/store/measure.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LIB) $(ALL_LIBS)
