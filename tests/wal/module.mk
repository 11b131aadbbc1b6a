TEST_COMMON_wal := tests/wal/fakedisk.c tests/wal/model.c
TESTS += wal/test_wal wal/test_recover wal/test_writer
