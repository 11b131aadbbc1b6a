TESTS += mount/test_errlog mount/test_names mount/test_nodes
TEST_COMMON_mount := daemon/errlog.c daemon/fs_names.c
