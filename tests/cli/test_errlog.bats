#!/usr/bin/env bats
# What the tools and the socket leave in the daemon's error log.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helper

# A daemon with a mount, for .vecfs/error_log.
setup() {
	C=t$BATS_TEST_NUMBER
	cd "$BATS_TEST_TMPDIR" || return
	if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
		[ -z "${CI:-}" ] || return 1
		skip "no /dev/fuse for this user"
	fi
	export VECFS_SOCKET=$BATS_TEST_TMPDIR/own.sock
	mkdir mnt
	"$VECFS_BIN/vecfsd" --shards "$VECFS_TEST_SHARDS" --socket "$VECFS_SOCKET" own mnt \
		>>own.log 2>&1 3>&- 4>&- &
	echo $! >own.pid
	for _ in $(seq 1 300); do
		[ -d mnt/.vecfs ] && return 0
		kill -0 "$(cat own.pid)" 2>/dev/null || break
		sleep 0.1
	done
	cat own.log >&2
	return 1
}

# logged REGEX: a line of the error log matches.
logged() {
	grep -E -- "$1" mnt/.vecfs/error_log >/dev/null && return 0
	echo "no line matches $1 in:" >&2
	cat mnt/.vecfs/error_log >&2
	return 1
}

@test "what ends a file of put is in the log, under the file's own name" {
	printf '{"id":"a","vector":[1,2,3]}\n{"id":"b","vec' >cut.jsonl
	python3 - <<-'PY'
		import struct
		row = struct.pack('<ifff', 3, 1, 2, 3)
		open('short.fvecs', 'wb').write(row * 2 + row[:7])
		open('mixed.fvecs', 'wb').write(row * 2 + struct.pack('<iff', 2, 1, 2))
		open('no.npy', 'wb').write(b'no npy at all, but long enough to tell')
	PY
	echo '{"id":"good","vector":[1,2,3]}' >good.jsonl
	run vec-put -q "$C" cut.jsonl short.fvecs mixed.fvecs no.npy good.jsonl
	[ "$status" -eq 4 ]
	logged 'EINVAL cut.jsonl:? .*line 2 is incomplete'
	logged 'EINVAL short.fvecs:? .*row 3 is cut off'
	logged 'EINVAL mixed.fvecs:? .*row 3 has dimension 2'
	logged 'EINVAL no.npy:? .*npy'
	[ "$(wc -l <mnt/.vecfs/error_log)" -eq 4 ]
	vec-get "$C" good
}

@test "many refused lines leave room for what ends the file, and stay with their file" {
	{ seq 1 150 | sed 's/.*/{bad&/' && printf '{"id":"a'; } >many.jsonl
	echo '{"id":"good","vector":[1,2,3]}' >good.jsonl
	run vec-put -q "$C" many.jsonl good.jsonl
	[ "$status" -eq 4 ]
	logged 'many.jsonl:1: '
	logged 'many.jsonl:? .*line 151 is incomplete'
	run grep -c good.jsonl mnt/.vecfs/error_log
	[ "$output" = 0 ]
}

@test "refusals about a collection as a whole name it" {
	vec-create "$C"
	run vec-create "$C"
	[ "$status" -ne 0 ]
	logged "EEXIST create $C: "
	run vec-drop -f nope
	[ "$status" -ne 0 ]
	logged 'ENOENT drop nope: '
}

@test "reading a collection that is not there leaves a line with its name" {
	run vec-scan nope
	[ "$status" -eq 5 ]
	logged 'ENOENT scan nope: '
	run vec-get nope x
	[ "$status" -eq 5 ]
	logged 'ENOENT get nope: '
	run vec-ls nope
	[ "$status" -ne 0 ]
	logged 'ENOENT list nope: '
	# But put asks before it makes one, which is no mistake.
	echo '{"id":"a","vector":[1]}' | vec-put fresh
	run grep -c fresh mnt/.vecfs/error_log
	[ "$output" = 0 ]
}
