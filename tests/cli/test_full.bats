#!/usr/bin/env bats
# A full disk and a read-only one, through the tools.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helper

need_tmpfs() {
	if ! mount -t tmpfs -o "size=$1" tmpfs "$2" 2>/dev/null; then
		[ -z "${CI:-}" ] || return 1
		skip "no right to mount a small file system"
	fi
}

@test "a full disk refuses writes with the reason, and loses nothing accepted" {
	mkdir disk
	need_tmpfs 130m "$PWD/disk"
	D=$PWD/disk/data
	export VECFS_SOCKET=$D.sock
	start_daemon "$D" --wal-segment-size 16M
	python3 -c "
import random, struct, sys
random.seed(1)
for i in range(58000):
    sys.stdout.buffer.write(struct.pack('<i256f', 256, *[random.random() for _ in range(256)]))" >in.fvecs
	vec-create full --metric l2 --index flat
	status=0
	vec-put --receipt full in.fvecs >receipt 2>err || status=$?
	cat err receipt
	[ "$status" -eq 5 ]
	grep -q 'space' err
	accepted=$(jq .accepted receipt)
	[ "$accepted" -gt 0 ]
	count=$(vec-stat -j full | jq .count)
	[ "$count" -ge "$accepted" ]
	# It still answers, and deletes make their way.
	[ "$(vec-query full --near 0 -i -k 3 | wc -l)" -eq 3 ]
	vec-scan -i full | head -n 10 >ids
	vec-rm full <ids
	[ "$(vec-stat -j full | jq .count)" -eq $((count - 10)) ]
	stop_daemon "$D"
	start_daemon "$D" --wal-segment-size 16M
	[ "$(vec-stat -j full | jq .count)" -eq $((count - 10)) ]
	vec-drop -f full
}

@test "a read-only data directory is refused with the reason" {
	mkdir disk
	need_tmpfs 150m "$PWD/disk"
	D=$PWD/disk/data
	start_daemon "$D" --wal-segment-size 16M
	stop_daemon "$D"
	mount -o remount,ro "$PWD/disk"
	run timeout 20 vecfsd --no-mount --socket "$BATS_TEST_TMPDIR/s" "$D"
	mount -o remount,rw "$PWD/disk"
	[ "$status" -ne 0 ]
	[ "$status" -ne 124 ]
	[[ $output == *"ead-only"* ]]
}
