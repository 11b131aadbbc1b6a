TESTS += index/test_search index/test_checkpoint
TEST_COMMON_index += tests/index/fixture.c
$(addprefix $(OUT)/tests/,index/test_search index/test_checkpoint): $(OUT)/tests/index/fixture.o
