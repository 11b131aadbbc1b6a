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

# A small ext4, on a loop device.
need_ext4() {
	if ! { truncate -s "$1" "$2.img" && mkfs.ext4 -q -F -m 0 "$2.img" && mount -o loop "$2.img" "$2"; } 2>/dev/null; then
		[ -z "${CI:-}" ] || return 1
		skip "no right to mount a small file system"
	fi
}

# Something else takes all there is, in the middle of the writing; what the daemon keeps back for deletes too.
filled_to_the_last_block() {
	D=$PWD/disk/data
	export VECFS_SOCKET=$D.sock
	start_daemon "$D" --wal-segment-size 16M
	vec-create full --metric l2 --dim 8
	local pid
	pid=$(cat "$D.pid")
	: >acked
	for w in 1 2 3; do
		for i in $(seq 1 400); do
			gen_jsonl 40 8 "w$w-$i-" | vec-put -q full >>"put.$w" 2>&1 || break
			seq -f "w$w-$i-%.0f" 0 39 >>"acked.$w"
		done 3>&- &
		echo $! >"writer.$w"
	done
	while [ ! -s acked.1 ] || [ ! -s acked.2 ] || [ ! -s acked.3 ]; do
		sleep 0.1
	done
	cat /dev/zero >disk/filler 2>/dev/null || true
	# Nobody hangs: writers are told.
	for w in 1 2 3; do
		for _ in $(seq 1 200); do
			kill -0 "$(cat "writer.$w")" 2>/dev/null || break
			sleep 0.1
		done
		run kill -0 "$(cat "writer.$w")"
		[ "$status" -ne 0 ]
	done
	cat acked.1 acked.2 acked.3 | sort >acked
	run gen_jsonl 1 8 no
	run -5 vec-put -q full <<<"$output"
	[[ $output == *space* ]]
	# The room kept back is given to deletes; reading and asking need none.
	vec-get full "$(head -n 1 acked)" >/dev/null
	[ "$(vec-query full --near "$(head -n 1 acked)" -i -k 3 | wc -l)" -eq 3 ]
	head -n 3 acked | vec-rm -q full
	sed -i 1,3d acked
	# Not a block is left now.
	cat /dev/zero >disk/filler2 2>/dev/null || true
	run gen_jsonl 1 8 no
	run -5 vec-put -q full <<<"$output"
	vec-get full "$(head -n 1 acked)" >/dev/null
	[ "$(vec-query full --near "$(head -n 1 acked)" -i -k 3 | wc -l)" -eq 3 ]
	run vec-rm -q full "$(head -n 1 acked)"
	[ "$status" -eq 0 ] || [ "$status" -eq 5 ]
	sed -i 1d acked
	# With room all of it goes on, in the same process.
	rm disk/filler disk/filler2
	for _ in $(seq 1 50); do
		gen_jsonl 20 8 after | vec-put -q full && break
		sleep 0.1
	done
	[ "$(vec-get full after19 | jq -r .id)" = after19 ]
	head -n 1 acked | vec-rm -q full
	sed -i 1d acked
	[ "$(cat "$D.pid")" = "$pid" ]
	kill -0 "$pid"
	stop_daemon "$D" KILL
	start_daemon "$D" --wal-segment-size 16M
	vec-scan -i full | sort >there
	[ -z "$(comm -23 acked there)" ]
	[ "$(grep -c '^after' there)" -eq 20 ]
	vec-index check full
	stop_daemon "$D"
}

@test "a disk that something else fills to the last block: told, served, and written again with room" {
	mkdir disk
	need_tmpfs 200m "$PWD/disk"
	filled_to_the_last_block
}

@test "the same on ext4" {
	mkdir disk
	need_ext4 256m "$PWD/disk"
	filled_to_the_last_block
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
