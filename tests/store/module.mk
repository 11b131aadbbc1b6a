TESTS += store/test_entry
