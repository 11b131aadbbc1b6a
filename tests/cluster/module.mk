TESTS += cluster/test_db cluster/test_crash cluster/test_threads
TEST_COMMON_cluster += tests/cluster/dbtest.c
