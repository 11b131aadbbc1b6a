TESTS += cluster/test_db cluster/test_crash cluster/test_threads cluster/test_damage cluster/test_stop cluster/test_churn cluster/test_quota cluster/test_txn cluster/test_snapshot cluster/test_fsck cluster/test_oom cluster/test_stopped
TEST_COMMON_cluster += tests/cluster/dbtest.c tests/wal/oom.c
