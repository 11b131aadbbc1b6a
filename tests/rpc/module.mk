TESTS += rpc/test_frame rpc/test_conn rpc/test_put rpc/test_place
TEST_COMMON_rpc += tests/rpc/rpctest.c
