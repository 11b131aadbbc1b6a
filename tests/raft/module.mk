TEST_COMMON_raft := tests/raft/nodes.c tests/raft/pump.c tests/wal/fakedisk.c tests/wal/oom.c
TESTS += raft/test_msg raft/test_guard raft/test_member raft/test_pump raft/test_kill raft/test_oom raft/test_core raft/test_peers raft/test_stopped
