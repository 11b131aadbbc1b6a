TESTS += hnsw/test_graph hnsw/test_precision hnsw/test_recall
TEST_COMMON_hnsw += tests/index/fixture.c
$(addprefix $(OUT)/tests/hnsw/,test_graph test_precision test_recall): $(OUT)/tests/index/fixture.o
