TESTS += rpc/test_frame rpc/test_conn rpc/test_put rpc/test_place
TEST_COMMON_rpc += tests/rpc/rpctest.c
# The socket front over a real database: only where that is built.
ifneq ($(filter cluster,$(MODULES)),)
TESTS += rpc/test_sock
$(OUT)/tests/rpc/test_sock: $(addprefix $(OUT)/daemon/,sock.o sock_session.o sock_ops.o \
	sock_query.o sock_admin.o sock_snap.o sock_txn.o errlog.o spin.o)
endif
