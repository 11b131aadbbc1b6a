TESTS += hnsw/test_graph
TEST_COMMON_hnsw += tests/index/fixture.c
$(OUT)/tests/hnsw/test_graph: $(OUT)/tests/index/fixture.o
