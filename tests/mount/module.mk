TESTS += mount/test_errlog mount/test_names mount/test_nodes mount/test_flight mount/test_carry mount/test_spin
TEST_COMMON_mount := daemon/errlog.c daemon/fs_names.c daemon/carry.c
