TESTS += store/test_entry store/test_store
$(OUT)/tests/store/test_store: $(OUT)/tests/store/fixture.o
