TESTS += raft/test_msg raft/test_guard raft/test_sim raft/test_pump
$(addprefix $(OUT)/tests/raft/,test_guard test_sim): $(OUT)/tests/raft/harness.o \
	$(OUT)/tests/raft/harness_disk.o
