# shellcheck shell=bash
# helper.bash - a daemon with its mount for a file of tests.
#
# VECFS_BIN is the directory of the programs, VECFS_TEST_SHARDS the shards of a new data directory (1).
# One daemon serves a whole file; every test has a collection of its own, $C (its name) and $D (its
# directory).  Whatever a test started is stopped and unmounted afterwards.

bats_require_minimum_version 1.5.0

VECFS_BIN=${VECFS_BIN:-$BATS_TEST_DIRNAME/../../build/release/bin}
VECFS_TEST_SHARDS=${VECFS_TEST_SHARDS:-1}

# Without /dev/fuse there is nothing to test; where tests must not be skipped, that is a failure.
need_fuse() {
	if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
		if [ -n "${CI:-}" ]; then
			echo "no /dev/fuse for this user" >&2
			return 1
		fi
		skip "no /dev/fuse for this user"
	fi
}

# start_daemon DATA MOUNT: in the background; returns once it is mounted.  Its pid is in DATA.pid.
start_daemon() {
	mkdir -p "$1"
	mkdir -p "$2" 2>/dev/null || true # a dead mount may be there, which is the daemon's to clear
	# shellcheck disable=SC2086
	"$VECFS_BIN/vecfsd" ${VECFS_TEST_ARGS:-} --shards "$VECFS_TEST_SHARDS" --socket "$1.sock" "$1" "$2" \
		>>"$1.log" 2>&1 3>&- 4>&- &
	echo $! >"$1.pid"
	for _ in $(seq 1 300); do
		[ -d "$2/.vecfs" ] && return 0
		kill -0 "$(cat "$1.pid")" 2>/dev/null || break
		sleep 0.1
	done
	echo "the daemon did not come up:" >&2
	cat "$1.log" >&2
	return 1
}

# stop_daemon DATA MOUNT [SIGNAL]
stop_daemon() {
	local pid
	pid=$(cat "$1.pid" 2>/dev/null) || return 0
	rm -f "$1.pid"
	kill "-${3:-TERM}" "$pid" 2>/dev/null
	for _ in $(seq 1 300); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	if kill -0 "$pid" 2>/dev/null; then
		kill -9 "$pid"
		umount -l "$2" 2>/dev/null
		echo "the daemon did not stop" >&2
		cat "$1.log" >&2
		return 1
	fi
	wait "$pid" 2>/dev/null || true
}

setup_file() {
	need_fuse
	BASE=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-mount.XXXXXX")
	export BASE DATA=$BASE/data MNT=$BASE/mnt
	start_daemon "$DATA" "$MNT"
}

teardown_file() {
	[ -n "${BASE:-}" ] || return 0
	local rc=0
	stop_daemon "$DATA" "$MNT" || rc=1
	# A clean stop leaves no mount behind.
	if mountpoint -q "$MNT" 2>/dev/null; then
		echo "the mount is still there" >&2
		umount -l "$MNT"
		rc=1
	fi
	# What a sanitizer had to say comes out in the log.
	if grep -aE -A12 'ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:' \
		"$DATA.log" >&2; then
		rc=1
	fi
	rm -rf "$BASE"
	return $rc
}

setup() {
	C=t$BATS_TEST_NUMBER
	D=$MNT/$C
	mkdir "$D"
	: >"$MNT/.vecfs/error_log"
}

# three: records a, b, c of dimension 3.
three() {
	echo '[0.1, 0.2, 0.3]' >"$D/vec/a.json"
	echo '[0.1, 0.2, 0.4]' >"$D/vec/b.json"
	echo '[0.9, 0.1, 0.0]' >"$D/vec/c.json"
}

# logged PATTERN: the error log has exactly one line, and it matches (extended regular expression).
logged() {
	local log
	log=$(cat "$MNT/.vecfs/error_log")
	if [ "$(wc -l <<<"$log")" -ne 1 ] || ! grep -qE -- "$1" <<<"$log"; then
		echo "error_log should be one line like '$1', but is:" >&2
		echo "$log" >&2
		return 1
	fi
}

# fails ERRNO-TEXT COMMAND...: the command fails and says so.
fails() {
	local want=$1 out
	shift
	if out=$("$@" 2>&1); then
		echo "should have failed: $*" >&2
		return 1
	fi
	if ! grep -qF -- "$want" <<<"$out"; then
		echo "'$*' should say '$want', but said:" >&2
		echo "$out" >&2
		return 1
	fi
}

# gone PATH [SECONDS]: it stops to resolve in that time.  (The kernel tells of a close in its own time.)
gone() {
	for _ in $(seq 1 $((${2:-15} * 10))); do
		[ -e "$1" ] || return 0
		sleep 0.1
	done
	echo "$1 is still there" >&2
	return 1
}

# same ACTUAL EXPECTED
same() {
	if [ "$1" != "$2" ]; then
		printf 'got:      %s\nexpected: %s\n' "$1" "$2" >&2
		return 1
	fi
}

# f32 NUMBER...: raw little-endian float32 on stdout.
f32() {
	python3 -c 'import struct,sys
sys.stdout.buffer.write(struct.pack("<%df" % (len(sys.argv)-1), *map(float, sys.argv[1:])))' "$@"
}
