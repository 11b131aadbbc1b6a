#!/usr/bin/env bats
# Ordinary programs when the disk is full, and when a record on it is damaged.
load helper
load programs

setup() {
	X=$BASE/$BATS_TEST_NUMBER
	mkdir "$X" "$X/disk" "$X/mnt"
}

teardown() {
	stop_daemon "$X/disk/data" "$X/mnt"
	! mountpoint -q "$X/disk" || umount "$X/disk"
}

@test "ENOSPC: every program is told, nothing changes, and writing goes on when there is room" {
	mount -t tmpfs -o size=400m tmpfs "$X/disk" 2>/dev/null || skip "this user cannot mount a small disk"
	start_daemon "$X/disk/data" "$X/mnt"
	local d=$X/mnt/docs p
	mkdir "$d"
	echo '[1,2,3]' >"$d/vec/a.json"
	cat /dev/zero >"$X/disk/filler" 2>/dev/null || true
	refused ENOSPC '[1,2,4]' "$d"
	for p in tee dd echo_dash python_with; do
		run "w_$p" "$d/append" <<<'{"id":"b","vector":[1,2,3]}'
		[ "$status" -ne 0 ] || { echo "append, $p: status 0"; false; }
		run "w_$p" "$d/inbox/b.jsonl" <<<'{"id":"b","vector":[1,2,3]}'
		[ "$status" -ne 0 ] || { echo "inbox, $p: status 0"; false; }
	done
	[ ! -e "$d/vec/b.json" ]
	same "$(cat "$d/vec/a.json")" '{"id":"a","vector":[1,2,3]}'
	rm "$d/vec/a.json" # deleting works
	rm "$X/disk/filler"
	for _ in $(seq 1 100); do
		echo '[1,2,5]' >"$d/vec/c.json" 2>/dev/null && break
		sleep 0.1
	done
	for p in $over $anew; do
		"w_$p" "$d/vec/$p.json" <<<'[1,2,4]' >"$BASE/out" 2>&1 || { echo "$p: $(cat "$BASE/out")"; false; }
		same "$p $(jq -c .vector "$d/vec/$p.json")" "$p [1,2,4]"
	done
}

@test "EIO: every program that reads a damaged record fails, and no other does" {
	start_daemon "$X/disk/data" "$X/mnt"
	local d=$X/mnt/docs
	mkdir "$d"
	for i in 1 2 3; do
		echo "[$i.25,2,3]" >"$d/vec/r$i.json"
	done
	stop_daemon "$X/disk/data" "$X/mnt"
	python3 - "$X/disk/data" <<-'PY'
		import glob, struct, sys
		want, hits = struct.pack("<3f", 2.25, 2, 3), 0
		for name in glob.glob(sys.argv[1] + "/shard-*/c-*/g-*/*.vec"):
		    with open(name, "r+b") as f:
		        at = f.read().find(want)
		        if at >= 0:
		            hits += 1
		            f.seek(at + 1)
		            f.write(b"\x55")
		assert hits == 1, hits
	PY
	start_daemon "$X/disk/data" "$X/mnt"
	: >"$X/mnt/.vecfs/error_log"
	local f=$d/vec/r2.json
	fails "Input/output error" cat "$f"
	fails "Input/output error" cp "$f" "$BASE/x"
	fails "Input/output error" dd if="$f" of="$BASE/x"
	fails "Input/output error" head -c 1 "$f"
	fails "Input/output error" wc -c "$f" "$d/vec/r2.f32"
	fails "Input/output error" grep vector "$f"
	fails "Input/output error" sed -n p "$f"
	fails "Input/output error" jq . "$f"
	fails "Input/output error" sort "$f"
	fails "nput/output error" python3 -c 'import sys; open(sys.argv[1]).read()' "$f"
	fails "Input/output error" tar -C "$d" -cf "$BASE/x.tar" vec
	fails "Input/output error" rsync -a "$d/vec/" "$BASE/copy/"
	fails "Input/output error" mv "$f" "$d/vec/r9.json"
	[ "$(grep -c ' EIO docs/vec/r2' "$X/mnt/.vecfs/error_log")" -ge 13 ]
	same "$(ls "$BASE/copy" | tr '\n' ' ')" "r1.json r3.json "
	# What an answer lacks is said: in the answer, by the tool, in the log for formats without room.
	echo '[2.25,2,3]' >"$d/q/near.json"
	same "$(jq -c '[.damaged, (.hits | length)]' "$d/q/near.json")" '[1,2]'
	echo '[2.25,2,3]' >"$d/q/near.ids"
	same "$(sort "$d/q/near.ids" | tr '\n' ' ')" "r1 r3 "
	grep -q ' EIO docs: an answer lacks 1 record' "$X/mnt/.vecfs/error_log"
	run --separate-stderr vec-query "$d" -i <<<'[2.25,2,3]'
	[[ $stderr == *"1 record that may belong to the answer cannot be read"* ]]
	rm "$f" # the name can go
	same "$(jq -c '[.damaged, (.hits | length)]' "$d/q/near.json")" '[null,2]'
	same "$(cat "$d"/vec/*.json | wc -l)" 2
}
