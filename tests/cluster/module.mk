TESTS += cluster/test_db cluster/test_crash cluster/test_threads cluster/test_damage cluster/test_stop cluster/test_churn
TEST_COMMON_cluster += tests/cluster/dbtest.c
