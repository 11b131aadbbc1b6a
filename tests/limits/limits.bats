#!/usr/bin/env bats
# Limits of memory: short forms of the harnesses beside this file.

bats_require_minimum_version 1.5.0

setup_file() {
	VECFS_BIN=$(cd "${VECFS_BIN:-$BATS_TEST_DIRNAME/../../build/release/bin}" && pwd)
	export VECFS_BIN TMPDIR=$BATS_FILE_TMPDIR
}

@test "a control group smaller than the vectors: answers go on, writers hear EDQUOT, nothing is killed" {
	run "$BATS_TEST_DIRNAME/cgroup.sh"
	echo "$output"
	if [ "$status" -eq 77 ]; then
		[ -z "${CI:-}" ]
		skip "$output"
	fi
	[ "$status" -eq 0 ]
}

@test "hundreds of tiny collections open at once in little memory" {
	MAX_MIB=200 run "$BATS_TEST_DIRNAME/tiny.sh" 300
	echo "$output"
	[ "$status" -eq 0 ]
}
