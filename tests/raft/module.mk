TESTS += raft/test_msg raft/test_guard raft/test_member raft/test_pump
