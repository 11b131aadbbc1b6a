TEST_COMMON_wal := tests/wal/fakedisk.c tests/wal/model.c tests/wal/oom.c tests/wal/faultdisk.c
TESTS += wal/test_wal wal/test_recover wal/test_writer wal/test_oom wal/test_faults wal/test_uring wal/test_view wal/test_forged wal/test_damage wal/test_stop
