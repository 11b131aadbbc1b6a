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

# refused_for_room: a put is, and reading and asking need none.
refused_for_room() {
	gen_jsonl 1 8 no >no
	run -5 vec-put -q full no
	[[ $output == *space* ]]
	vec-get full "$(head -n 1 acked)" >/dev/null
	[ "$(vec-query full --near "$(head -n 1 acked)" -i -k 3 | wc -l)" -eq 3 ]
	[ "$(vec-scan -i full | wc -l)" -ge "$(wc -l <acked)" ]
}

# remove N: deletes the first of those acknowledged.
remove() {
	head -n "$1" acked | vec-rm -q full
	sed -i "1,$1d" acked
}

fill_the_disk() {
	cat /dev/zero >"disk/$1" 2>/dev/null || true
}

# room_again PREFIX: the same process takes records within some seconds.
room_again() {
	rm disk/filler*
	for _ in $(seq 1 100); do
		gen_jsonl 20 8 "$1" | vec-put -q full && break
		sleep 0.1
	done
	[ "$(vec-get full "${1}19" | jq -r .id)" = "${1}19" ]
	kill -0 "$(cat "$D.pid")"
	seq -f "$1%.0f" 0 19 >>acked
}

# Something else takes all there is: while nobody writes, what the daemon kept back for deletes too, and in the midst of writers.
filled_to_the_last_block() {
	D=$PWD/disk/data
	export VECFS_SOCKET=$D.sock
	start_daemon "$D" --wal-segment-size 16M
	vec-create full --metric l2 --dim 8
	gen_jsonl 1000 8 r | vec-put -q full
	seq -f 'r%.0f' 0 999 >acked
	fill_the_disk filler1
	refused_for_room
	remove 3
	run -1 vec-get full r0
	fill_the_disk filler2
	refused_for_room
	room_again a
	remove 3
	for w in 1 2 3; do
		for i in $(seq 1 100); do
			gen_jsonl 40 8 "w$w-$i-" | vec-put -q full >>"put.$w" 2>&1 || break
			seq -f "w$w-$i-%.0f" 0 39 >>"acked.$w"
		done 3>&- 4>&- &
		echo $! >"writer.$w"
	done
	while [ ! -s acked.1 ] || [ ! -s acked.2 ] || [ ! -s acked.3 ]; do
		sleep 0.1
	done
	fill_the_disk filler3
	vec-get full r10 >/dev/null
	sleep 1
	room_again b
	wait "$(cat writer.1)" "$(cat writer.2)" "$(cat writer.3)" || true
	cat acked.1 acked.2 acked.3 >>acked
	remove 3
	stop_daemon "$D" KILL
	start_daemon "$D" --wal-segment-size 16M
	vec-scan -i full | sort >there
	[ -z "$(sort acked | comm -23 - there)" ]
	! grep -qxE 'r[0-8]' there
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

# Where the room ends differs by one file each time: a new slice has a directory or two and several files.
@test "a disk without room for another file: nothing is restarted, and all goes on when there is room" {
	mkdir disk
	mount -t tmpfs -o size=200m,nr_inodes=300 tmpfs "$PWD/disk" 2>/dev/null || need_tmpfs 1m "$PWD/disk"
	D=$PWD/disk/data
	export VECFS_SOCKET=$D.sock
	start_daemon "$D" --wal-segment-size 16M
	vec-create first --dim 3 --metric l2
	gen_jsonl 5 3 a | vec-put -q first
	local i k waiting
	for k in 0 1 2 3 4 5 6 7 8; do
		vec-create "c$k" --dim 3 --metric l2
		for i in $(seq 400); do
			: >"disk/fill-$i" || break
		done 2>/dev/null
		for i in $(seq "$k"); do
			rm "disk/fill-$i"
		done
		gen_jsonl 3 3 b | timeout 5 vec-put -q "c$k" >/dev/null 2>&1 &
		waiting=$!
		sleep 0.3
		kill -0 "$(cat "$D.pid")"
		[ "$(vec-query first --near a1 -i -k 3 | wc -l)" -eq 3 ]
		rm -f disk/fill-*
		wait "$waiting" || true
		for i in $(seq 50); do
			gen_jsonl 3 3 b | vec-put -q "c$k" 2>/dev/null && break
			sleep 0.1
		done
		[ "$(vec-stat -j "c$k" | jq .count)" -eq 3 ]
		gen_jsonl 8 3 a | vec-put -q first
	done
	! grep 'stopping so that nothing' "$D.log"
}
