# shellcheck shell=bash
# helper.bash - a daemon without a mount for a file of tests of the tools.
#
# VECFS_BIN is the directory of the programs, VECFS_TEST_SHARDS the shards of a new data directory (1).
# One daemon serves a whole file; every test has a collection's name of its own in $C and a
# directory in $BATS_TEST_TMPDIR.  Whatever a test started is stopped afterwards.

bats_require_minimum_version 1.5.0

VECFS_BIN=${VECFS_BIN:-$BATS_TEST_DIRNAME/../../build/release/bin}
VECFS_BIN=$(cd "$VECFS_BIN" && pwd)
VECFS_TEST_SHARDS=${VECFS_TEST_SHARDS:-1}
PATH=$VECFS_BIN:$PATH

# start_daemon DATA [OPTION...]: in the background; returns once it answers on DATA.sock.
start_daemon() {
	local data=$1
	shift
	"$VECFS_BIN/vecfsd" --no-mount --shards "$VECFS_TEST_SHARDS" --socket "$data.sock" "$@" \
		"$data" >>"$data.log" 2>&1 3>&- 4>&- &
	echo $! >"$data.pid"
	for _ in $(seq 1 300); do
		VECFS_SOCKET=$data.sock vec-ls >/dev/null 2>&1 && return 0
		kill -0 "$(cat "$data.pid")" 2>/dev/null || break
		sleep 0.1
	done
	echo "the daemon did not come up:" >&2
	cat "$data.log" >&2
	return 1
}

# stop_daemon DATA [SIGNAL]
stop_daemon() {
	local pid
	pid=$(cat "$1.pid" 2>/dev/null) || return 0
	rm -f "$1.pid"
	kill "-${2:-TERM}" "$pid" 2>/dev/null
	for _ in $(seq 1 300); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	if kill -0 "$pid" 2>/dev/null; then
		kill -9 "$pid"
		echo "the daemon did not stop" >&2
		cat "$1.log" >&2
		return 1
	fi
	wait "$pid" 2>/dev/null || true
}

# What a sanitizer had to say comes out in the log.
check_log() {
	! grep -aE 'ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' \
		"$1.log" >&2
}

setup_file() {
	BASE=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-cli.XXXXXX")
	export BASE DATA=$BASE/data VECFS_SOCKET=$BASE/data.sock
	start_daemon "$DATA"
}

teardown_file() {
	[ -n "${BASE:-}" ] || return 0
	local rc=0
	stop_daemon "$DATA" || rc=1
	check_log "$DATA" || rc=1
	rm -rf "$BASE"
	return $rc
}

setup() {
	# shellcheck disable=SC2034 # for the tests
	C=t$BATS_TEST_NUMBER
	cd "$BATS_TEST_TMPDIR" || return
}

# What a test of its own daemon ($BATS_TEST_TMPDIR/own, disk/data) left behind, also when it failed.
teardown() {
	local d rc=0
	cd / || return
	for d in "$BATS_TEST_TMPDIR/own" "$BATS_TEST_TMPDIR/disk/data"; do
		[ -e "$d.log" ] || continue
		stop_daemon "$d" || rc=1
		check_log "$d" || rc=1
	done
	for d in mnt disk; do
		if mountpoint -q "$BATS_TEST_TMPDIR/$d" 2>/dev/null; then
			umount "$BATS_TEST_TMPDIR/$d" || umount -l "$BATS_TEST_TMPDIR/$d"
		fi
	done
	return $rc
}

# gen_jsonl N DIM [PREFIX]: records PREFIX0.. with vectors made of their numbers.
gen_jsonl() {
	awk -v n="$1" -v d="$2" -v p="${3:-r}" 'BEGIN {
		srand(7)
		for (i = 0; i < n; i++) {
			printf "{\"id\":\"%s%d\",\"vector\":[", p, i
			for (j = 0; j < d; j++)
				printf "%s%.4f", j ? "," : "", rand() * 2 - 1
			printf "],\"meta\":{\"n\":%d}}\n", i
		}
	}'
}
