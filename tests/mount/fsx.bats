#!/usr/bin/env bats
# Random operations on vec/ against a model (fsx.c), with the daemon killed between rounds.
# FSX_OPS operations in FSX_RESTARTS + 1 rounds; SEED repeats a run.
load helper

setup() {
	X=$BASE/$BATS_TEST_NUMBER
	start_daemon "$X" "$X.mnt"
	mkdir "$X.mnt/fsx"
}

teardown() {
	stop_daemon "$X" "$X.mnt"
}

@test "what vec/ holds is what the model says, through kills of the daemon" {
	local ops=${FSX_OPS:-6000} rounds=$((${FSX_RESTARTS:-2} + 1)) seed=${SEED:-$RANDOM$RANDOM}
	echo "SEED=$seed"
	for ((i = 0; i < rounds; i++)); do
		SEED=$((seed + i)) "$VECFS_BIN/../tests/mount/fsx" "$X.mnt/fsx" $((ops / rounds)) "$X.state"
		# Opening is the only refusal that leaves a line for nothing: everything else was asked for.
		[ "$(grep -vcE ' (EINVAL|EBADMSG|EXDEV|ENOENT) fsx/vec/' "$X.mnt/.vecfs/error_log")" -eq 0 ]
		stop_daemon "$X" "$X.mnt" KILL
		start_daemon "$X" "$X.mnt"
	done
	SEED=$seed "$VECFS_BIN/../tests/mount/fsx" "$X.mnt/fsx" 0 "$X.state"
}
