# Long forms; the short ones are limits.bats and cluster/test_churn.
.PHONY: check-churn check-cgroup check-tiny check-long
check-long: check-cgroup check-tiny $(if $(VECFS_BENCH_DATA),check-churn)
check-churn: $(OUT)/tests/cluster/test_churn ## half of VECFS_BENCH_DATA's sift-200k deleted and put again, ten times
	$(Q)[ -n "$(VECFS_BENCH_DATA)" ] || { echo "name a directory of sets: VECFS_BENCH_DATA=DIR"; exit 1; }
	$(Q)env $(TEST_ENV) CHURN_BASE=$(VECFS_BENCH_DATA)/sift-200k.base.bvecs \
		CHURN_QUERY=$(VECFS_BENCH_DATA)/sift-200k.query.bvecs $(OUT)/tests/cluster/test_churn
check-cgroup: all ## a memory control group smaller than the vectors
	$(Q)env $(TEST_ENV) tests/limits/cgroup.sh 150000 512 192
check-tiny: all ## 2,000 tiny collections
	$(Q)env $(TEST_ENV) tests/limits/tiny.sh 2000
