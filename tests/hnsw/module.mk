TESTS += hnsw/test_graph hnsw/test_recall
TEST_COMMON_hnsw += tests/index/fixture.c
$(OUT)/tests/hnsw/test_graph $(OUT)/tests/hnsw/test_recall: $(OUT)/tests/index/fixture.o
