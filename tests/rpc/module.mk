TESTS += rpc/test_frame rpc/test_conn rpc/test_put rpc/test_place
TEST_COMMON_rpc += tests/rpc/rpctest.c
$(addprefix $(OUT)/tests/rpc/,test_frame test_conn test_put test_place): $(OUT)/tests/rpc/rpctest.o
