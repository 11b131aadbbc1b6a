#!/usr/bin/env bats
# Starting, stopping, being killed: what was acknowledged is there afterwards.
load helper

setup() {
	X=$BASE/$BATS_TEST_NUMBER
	mkdir "$X"
}

teardown() {
	stop_daemon "$X/data" "$X/mnt" KILL || true
	stop_daemon "$X/disk/data" "$X/mnt" KILL || true
	umount -l "$X/disk" 2>/dev/null || true
	if mountpoint -q "$X/mnt" 2>/dev/null || ! [ -d "$X/mnt" ]; then
		umount -l "$X/mnt" 2>/dev/null || true
	fi
}

@test "after kill -9 every acknowledged record is there and searchable" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	for i in $(seq 1 50); do echo "[$i,1,2]" >"$X/mnt/docs/vec/r$i.json"; done
	seq 100 10 400 | sed 's/.*/{"id":"s&","vector":[&,200,4]}/' >"$X/mnt/docs/append"
	seq 500 700 | sed 's/.*/{"id":"t&","vector":[&,5,6]}/' >"$X/mnt/docs/inbox/f.jsonl"
	rm "$X/mnt/docs/vec/r7.json"
	echo '{"vector":[30,1,2],"k":1}' >"$X/mnt/docs/q/mine"
	stop_daemon "$X/data" "$X/mnt" KILL
	start_daemon "$X/data" "$X/mnt" # clears the dead mount, too
	same "$(wc -l <"$X/mnt/docs/ids")" $((49 + 31 + 201))
	[ ! -e "$X/mnt/docs/vec/r7.json" ]
	same "$(jq -c .vector "$X/mnt/docs/vec/r50.json")" '[50,1,2]'
	same "$(cut -f3 "$X/mnt/docs/q/mine")" r30
	same "$(jq .accepted "$X/mnt/docs/done/f.jsonl.json")" 201
	exec 5<>"$X/mnt/docs/query.ids"
	echo '{"vector":[330,200,4],"k":1}' >&5
	same "$(cat <&5)" s330
	exec 5>&-
}

@test "killed while writers write: what they were told is true" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	for w in 1 2 3; do
		(
			i=0
			while echo "{\"id\":\"w$w-$i\",\"vector\":[$i,$w,2]}" >"$X/mnt/docs/append"; do
				echo "w$w-$i" >>"$X/acked.$w"
				i=$((i + 1))
			done 2>/dev/null
		) 3>&- &
	done
	sleep 1
	stop_daemon "$X/data" "$X/mnt" KILL
	wait
	umount -l "$X/mnt" 2>/dev/null || true
	start_daemon "$X/data" "$X/mnt"
	[ "$(cat "$X"/acked.* | wc -l)" -gt 10 ]
	same "$(cat "$X"/acked.* | sort | comm -23 - <(sort "$X/mnt/docs/ids"))" ""
	same "$(ls "$X/mnt/docs/vec" | wc -l)" "$(wc -l <"$X/mnt/docs/ids")"
}

@test "a clean stop and start keeps everything, and unmounts" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs" "$X/mnt/empty"
	echo '[1,2,3]' >"$X/mnt/docs/vec/a.json"
	local before ino
	before=$(stat -c '%s %Y' "$X/mnt/docs/vec/a.json")
	ino=$(stat -c %i "$X/mnt/docs/vec/a.json")
	stop_daemon "$X/data" "$X/mnt"
	run mountpoint -q "$X/mnt"
	[ "$status" -ne 0 ]
	start_daemon "$X/data" "$X/mnt"
	same "$(stat -c '%s %Y' "$X/mnt/docs/vec/a.json")" "$before"
	same "$(stat -c %i "$X/mnt/docs/vec/a.json")" "$ino"
	same "$(ls "$X/mnt" | tr '\n' ' ')" "docs empty "
}

@test "stopping with files open and a shell inside ends within seconds" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	exec 5>"$X/mnt/docs/append"
	cd "$X/mnt/docs"
	stop_daemon "$X/data" "$X/mnt"
	cd /
	run bash -c 'echo x >&5'
	[ "$status" -ne 0 ]
	exec 5>&-
}

@test "a stop with streams, listings and questions open is a clean stop" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	seq 500 | sed 's/.*/{"id":"r&","vector":[&,2,3]}/' >"$X/mnt/docs/append"
	exec 5<"$X/mnt/docs/export.jsonl" 6<"$X/mnt/docs/ids" 7<>"$X/mnt/docs/query" 8>"$X/mnt/docs/inbox/.x"
	head -n 1 <&5 && head -n 1 <&6 && echo '[1,2,3]' >&7 && echo half >&8
	local pid status=0
	pid=$(cat "$X/data.pid")
	kill "$pid"
	wait "$pid" || status=$?
	exec 5<&- 6<&- 7>&- 8>&-
	[ "$status" -eq 0 ] || { tail -n 3 "$X/data.log" && false; }
	start_daemon "$X/data" "$X/mnt"
	same "$(wc -l <"$X/mnt/docs/ids")" 500
}

@test "unmounting by hand ends the daemon" {
	start_daemon "$X/data" "$X/mnt"
	umount "$X/mnt" 2>/dev/null || fusermount3 -u "$X/mnt"
	local pid
	pid=$(cat "$X/data.pid")
	for _ in $(seq 1 100); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	run kill -0 "$pid"
	[ "$status" -ne 0 ]
}

@test "a data directory inside the mount, or the mount inside it, is refused" {
	mkdir -p "$X/mnt/data" "$X/d/mnt"
	run timeout 20 "$VECFS_BIN/vecfsd" --socket "$X/s" "$X/mnt/data" "$X/mnt"
	[ "$status" -ne 0 ]
	[[ "$output" == *"inside the mount"* ]]
	run timeout 20 "$VECFS_BIN/vecfsd" --socket "$X/s" "$X/d" "$X/d/mnt"
	[ "$status" -ne 0 ]
	[[ "$output" == *"inside the data directory"* ]]
	run mountpoint -q "$X/mnt"
	[ "$status" -ne 0 ]
}

@test "a mount point that is missing, a file, or taken is refused" {
	: >"$X/file"
	run timeout 20 "$VECFS_BIN/vecfsd" --socket "$X/s" "$X/data" "$X/nowhere"
	[ "$status" -ne 0 ]
	run timeout 20 "$VECFS_BIN/vecfsd" --socket "$X/s" "$X/data" "$X/file"
	[ "$status" -ne 0 ]
	start_daemon "$X/data" "$X/mnt"
	run timeout 20 "$VECFS_BIN/vecfsd" --socket "$X/s2" "$X/data2" "$X/mnt"
	[ "$status" -ne 0 ]
	[[ "$output" == *"mounted on"* ]]
	[ -d "$X/mnt/.vecfs" ]
}

@test "receipts and questions of a dropped collection do not come back" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	echo '{"id":"a","vector":[1,2,3]}' >"$X/mnt/docs/inbox/f.jsonl"
	echo '{"id":"a"}' >"$X/mnt/docs/q/mine"
	rm "$X/mnt/docs/vec/a.json"
	rmdir "$X/mnt/docs"
	mkdir "$X/mnt/docs"
	same "$(ls "$X/mnt/docs/q" "$X/mnt/docs/done" | grep -cE 'mine|f.jsonl')" 0
	stop_daemon "$X/data" "$X/mnt"
	same "$(find "$X/data/q" "$X/data/done" -type f | wc -l)" 0
}

@test "staging files are forgotten by a restart and leave nothing on disk" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	head -c 3000000 /dev/zero >"$X/mnt/docs/inbox/.big.tmp"
	echo '[1,2' >"$X/mnt/docs/vec/.half"
	stop_daemon "$X/data" "$X/mnt" KILL
	start_daemon "$X/data" "$X/mnt"
	same "$(ls -A "$X/mnt/docs/inbox" "$X/mnt/docs/vec" | grep -c '^\.')" 0
	same "$(find "$X/data" -name 'spool*' | wc -l)" 0
}

@test "many threads at once: writers, readers, listings, questions" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	echo '[1,2,3]' >"$X/mnt/docs/vec/first.json"
	timeout 120 python3 - "$X/mnt/docs" <<-'PY'
		import os, sys, threading, json
		d = sys.argv[1]
		errors = []
		def guard(f):
		    def g(*a):
		        try: f(*a)
		        except Exception as e: errors.append(repr(e))
		    return g
		@guard
		def writer(w):
		    for i in range(60):
		        with open(f"{d}/vec/w{w}-{i % 20}.json", "w") as f: f.write("[%d,%d,1]" % (i + 1, w + 1))
		        if i % 7 == 3:
		            try: os.unlink(f"{d}/vec/w{w}-{i % 20}.json")
		            except FileNotFoundError: pass
		@guard
		def appender(w):
		    with open(f"{d}/append", "w") as f:
		        for i in range(60):
		            f.write(json.dumps({"id": f"a{w}-{i}", "vector": [i + 1, w, 2]}) + "\n")
		            f.flush()
		@guard
		def lister(_):
		    for _ in range(20):
		        for n in os.listdir(f"{d}/vec"):
		            try: json.load(open(f"{d}/vec/{n}"))
		            except FileNotFoundError: pass
		@guard
		def asker(_):
		    fd = os.open(f"{d}/query.ids", os.O_RDWR)
		    for i in range(200):
		        os.pwrite(fd, b'{"vector":[1,%d,3],"k":3}\n' % i, 0)
		        assert len(os.pread(fd, 4096, 0).split()) >= 1
		    os.close(fd)
		@guard
		def near(_):
		    for _ in range(50): assert open(f"{d}/near/first,k=1").read() is not None
		ts = [threading.Thread(target=f, args=(i,)) for i in range(3) for f in (writer, appender, lister, asker, near)]
		for t in ts: t.start()
		for t in ts: t.join()
		assert not errors, errors[:3]
	PY
	same "$(grep -c '^a[0-2]-' "$X/mnt/docs/ids")" 180
}

@test "a full disk: writes are ENOSPC, reading and deleting go on, nothing is lost" {
	mkdir "$X/disk" "$X/mnt"
	mount -t tmpfs -o size=400m tmpfs "$X/disk" 2>/dev/null || skip "this user cannot mount a small disk"
	start_daemon "$X/disk/data" "$X/mnt"
	mkdir "$X/mnt/docs"
	echo '[1,2,3]' >"$X/mnt/docs/vec/a.json"
	echo '[1,2,4]' >"$X/mnt/docs/vec/b.json"
	cat /dev/zero >"$X/disk/filler" 2>/dev/null || true
	run bash -c "echo '[1,2,5]' >'$X/mnt/docs/vec/c.json'"
	[ "$status" -ne 0 ]
	[[ "$output" == *"No space left"* ]]
	run bash -c "echo '[1,2,5]' >'$X/mnt/docs/inbox/.c'"
	[ "$status" -ne 0 ]
	same "$(grep -cE 'ENOSPC docs/(vec/c.json|inbox/.c): ' "$X/mnt/.vecfs/error_log")" 2
	same "$(cut -f3 "$X/mnt/docs/near/a")" b
	rm "$X/mnt/docs/vec/b.json"
	rm "$X/disk/filler"
	# Room again, and writing goes on (the daemon looks now and then).
	for _ in $(seq 1 100); do
		echo '[1,2,5]' >"$X/mnt/docs/vec/c.json" 2>/dev/null && break
		sleep 0.1
	done
	same "$(sort "$X/mnt/docs/ids" | tr '\n' ' ')" "a c "
	stop_daemon "$X/disk/data" "$X/mnt"
	umount "$X/disk"
}

@test "a damaged vector is EIO where that record is read, and nowhere else" {
	start_daemon "$X/data" "$X/mnt"
	mkdir "$X/mnt/docs" "$X/mnt/other"
	for i in 1 2 3; do
		echo "{\"vector\":[$i.25,2,3],\"text\":\"t$i\"}" >"$X/mnt/docs/vec/r$i.json"
		echo "[$i,2,3]" >"$X/mnt/other/vec/o$i.json"
	done
	stop_daemon "$X/data" "$X/mnt"
	python3 - "$X/data" <<-'PY'
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
	start_daemon "$X/data" "$X/mnt"
	: >"$X/mnt/.vecfs/error_log"
	fails "Input/output error" cat "$X/mnt/docs/vec/r2.json"
	same "$(wc -l <"$X/mnt/.vecfs/error_log")" 1
	grep -qE 'EIO docs/vec/r2.json: .*damaged' "$X/mnt/.vecfs/error_log"
	fails "Input/output error" cat "$X/mnt/docs/vec/r2.f32"
	# The others are read, and the names of all.
	same "$(jq -c '[.vector,.text]' "$X/mnt/docs/vec/r1.json")" '[[1.25,2,3],"t1"]'
	same "$(jq -c .vector "$X/mnt/docs/vec/r3.json")" '[3.25,2,3]'
	same "$(ls "$X/mnt/docs/vec" | tr '\n' ' ')" "r1.json r2.json r3.json "
	ls -l "$X/mnt/docs/vec"
	same "$(tr '\n' ' ' <"$X/mnt/docs/ids")" "r1 r2 r3 "
	# It is written and asked as before; the record can be replaced.
	echo '[4.25,2,3]' >"$X/mnt/docs/vec/r4.json"
	same "$(cut -f3 "$X/mnt/docs/near/r1,exact=1" | grep -v r2 | tr '\n' ' ')" "r3 r4 "
	echo '[2.5,2,3]' >"$X/mnt/docs/vec/r2.json"
	same "$(jq -c .vector "$X/mnt/docs/vec/r2.json")" '[2.5,2,3]'
	# Other collections know nothing of it.
	same "$(cut -f3 "$X/mnt/other/near/o1" | tr '\n' ' ')" "o2 o3 "
	echo '[4,2,3]' >"$X/mnt/other/vec/o4.json"
	same "$(wc -l <"$X/mnt/other/ids")" 4
	same "$(wc -l <"$X/mnt/other/export.jsonl")" 4
	stop_daemon "$X/data" "$X/mnt"
}
