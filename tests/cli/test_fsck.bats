#!/usr/bin/env bats
# vec-fsck: planted damage is named, also while it is served, a crash leaves none, what is derived comes back.

load helper

# A directory of its own, $own: 2,400 records of which some are replaced and deleted, an index checkpoint.
make_data() {
	own=$BATS_TEST_TMPDIR/own
	start_daemon "$own"
	export VECFS_SOCKET=$own.sock
	vec-create docs --dim 8 --metric l2
	gen_jsonl 2400 8 >docs.jsonl
	vec-put -q docs docs.jsonl
	head -n 300 docs.jsonl | vec-put -q docs
	seq 1 40 | sed s/^/r/ | vec-rm -q docs
	vec-index wait docs
}

# The slice with the most slots: $slice; its generation: $gen.
find_slice() {
	local f
	f=$(du -a "$own"/shard-*/c-*/g-*/000000.vec | sort -n | tail -n 1 | cut -f 2)
	gen=${f%/*}
	slice=${gen%/*}
}

# flip FILE OFFSET: one bit.
flip() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059
	printf "\\x$(printf %x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

stopped_data() {
	make_data
	stop_daemon "$own"
	find_slice
	vec-fsck "$own"
}

@test "a crash leaves a clean directory, and the next start one as well" {
	make_data
	stop_daemon "$own" KILL
	run -0 vec-fsck -j "$own"
	[[ $output != *damage* ]]
	start_daemon "$own"
	run -0 vec-fsck docs
	[ -z "$output" ]
	stop_daemon "$own"
	run -0 vec-fsck -s "$own"
	[[ $output == *"records 2360"* ]]
}

@test "a directory that is served is verified by its daemon, and by no other" {
	make_data
	run -0 vec-fsck -s "$own"
	[[ $output == *"records 2360"*"damage 0"* ]]
	run -0 vec-fsck -s docs
	[[ $output == *"records 2360"*"damage 0"* ]]
	run -75 --separate-stderr vec-fsck -r "$own"
	# shellcheck disable=SC2154
	[[ $stderr == *"is served by a vecfsd (pid "* ]]
	VECFS_SOCKET=$own.none run -75 --separate-stderr vec-fsck "$own"
	[[ $stderr == *"is served by a vecfsd (pid "*"cannot be asked: no daemon answers at"* ]]
	VECFS_SOCKET=$DATA.sock run -75 --separate-stderr vec-fsck "$own"
	[[ $stderr == *"cannot be asked: this daemon serves $DATA, not $own"* ]]
}

# plant FILE OFFSET: the flip is found with the file's name, and nothing is once it is taken back.
plant() {
	flip "$own/$1" "$2"
	run -4 vec-fsck "$own"
	echo "$1: $output" # of a failure
	[[ $output == "damage $own/$1:"* || $output == "damage $own/${1%/*}: "*"${1##*/}"* ]]
	[[ $(grep -cv "${1##*/}" <<<"$output") -eq 0 ]]
	flip "$own/$1" "$2"
	run -0 vec-fsck "$own"
	[ -z "$output" ]
}

@test "planted damage is found while it is served, with its file" {
	make_data
	vec-snap take docs one
	stop_daemon "$own" # so that all of the catalog is in its file
	start_daemon "$own"
	plant node.json 24
	plant wal/0000000001.wal 40
	plant wal/0000000001.wal 36900
	plant catalog.db $((4 * 4096 + 2000)) # one that a start does not write
	plant "snapshots/docs/one/$(cd "$own/snapshots/docs/one" && ls -- *.000000.vec | head -n 1)" $((20975616 + 40))
	find_slice
	plant "${gen#"$own/"}/000000.vec" $((20975616 + 500 * 32 + 3))
	mkdir "$own/shard-000/c-77"
	run -4 vec-fsck -j "$own"
	jq -es '.[0].level == "damage" and (.[0].file | endswith("/shard-000/c-77"))' <<<"$output"
	rmdir "$own/shard-000/c-77"
	touch "$own/stray"
	run -0 vec-fsck -v "$own"
	[ "$output" = "note $own/stray: does not belong here" ]
}

# Tools at work until the file $BATS_TEST_TMPDIR/stop is there.
at_work() {
	local i=0
	until [ -e "$BATS_TEST_TMPDIR/stop" ]; do
		i=$((i + 1))
		"$@" "$i" || return
	done
}
put_and_rm() {
	vec-put -q docs docs.jsonl && seq $((i % 7)) 9 2000 | sed s/^/r/ | vec-rm -q docs
}
snap_and_compact() {
	vec-snap take docs "s$1" && vec-index compact docs && vec-snap rm docs "s$1"
}
create_and_drop() {
	vec-create "n$1" --dim 8 --metric l2 && head -n 50 docs.jsonl | vec-put -q "n$1" &&
		vec-drop -f "n$1"
}

@test "beside tools at work nothing is found" {
	local looks=0 pids=()
	own=$BATS_TEST_TMPDIR/own
	start_daemon "$own" --wal-segment-size 16M --mark-interval 50
	export VECFS_SOCKET=$own.sock
	vec-create docs --dim 8 --metric l2
	gen_jsonl 2400 8 >docs.jsonl
	for job in put_and_rm snap_and_compact create_and_drop; do
		at_work "$job" >"$job.out" 2>&1 3>&- &
		pids+=($!)
	done
	for _ in $(seq 1 40); do
		run vec-fsck "$own"
		[ "$status" -eq 0 ] && [ -z "$output" ] || {
			echo "look $looks: status $status: $output" >&2
			false
		}
		looks=$((looks + 1))
	done
	touch stop
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
	[ "$looks" -eq 40 ]
	run -0 vec-fsck -v "$own"
	[ -z "$output" ]
}

@test "a flipped vector is damage, with its place; --force gives up that record alone" {
	stopped_data
	flip "$gen/000000.vec" $((20975616 + 500 * 32 + 3))
	run -4 vec-fsck "$own"
	[[ $output == "damage $gen/000000.vec:$((20975616 + 500 * 32)): slot 500, of "*"the vector has a wrong checksum" ]]
	run -4 vec-fsck -r "$own"
	run -1 vec-fsck -r -f "$own"
	run -0 vec-fsck "$own"
	start_daemon "$own"
	run -0 vec-stat docs
	[[ $output == *"count 2359"* ]]
	run -0 vec-fsck docs
}

@test "a live collection with a flipped vector is found damaged" {
	stopped_data
	flip "$gen/000000.vec" $((20975616 + 500 * 32 + 3))
	start_daemon "$own"
	run -4 vec-fsck docs
	[[ $output == *"slot 500, of "*"the vector has a wrong checksum"* ]]
	run -4 vec-index check docs
	[[ $output == *"slot 500"* ]]
}

@test "a flipped row is damage, with its place" {
	stopped_data
	flip "$gen/000000.vec" $((4096 + 700 * 64 + 9))
	run -4 vec-fsck "$own"
	[[ $output == "damage $gen/000000.vec:$((4096 + 700 * 64)): slot 700, of "*"the row has a wrong checksum" ]]
}

@test "a damaged header of a segment is written again" {
	stopped_data
	flip "$gen/000000.vec" 33
	run -4 vec-fsck "$own"
	[[ $output == *"derived $gen/000000.vec:0: "*header* ]]
	run -1 vec-fsck -r "$own"
	[[ $output == "repaired $gen/000000.vec:0: "* ]]
	run -0 vec-fsck "$own"
}

@test "a page of meta.db is damage, with its place" {
	stopped_data

	python3 - "$slice/meta.db" <<-'PY' || skip "python3 has no sqlite3"
		import os, sys
		assert os.path.getsize(sys.argv[1]) > 8 * 4096
	PY
	rm -f "$slice/meta.db-shm"
	flip "$slice/meta.db" $((4096 * 5 + 1000))
	run vec-fsck "$own"
	if [ "$status" -eq 0 ]; then # the page's newest version is in the -wal file
		[ -s "$slice/meta.db-wal" ]
	else
		[ "$status" -eq 4 ]
		[[ $output == *"damage $slice/meta.db:$((4096 * 5)): page 6 has a wrong checksum"* ]]
	fi
}

@test "a lost -wal file is noticed" {
	stopped_data
	rm -f "$slice"/meta.db-wal "$slice"/meta.db-shm
	run vec-fsck "$own"
	if [ "$status" -ne 0 ]; then
		[ "$status" -eq 4 ]
		[[ $output == *"damage $slice/meta.db"* ]]
	fi
}

@test "a flipped index checkpoint is derived, and made again" {
	stopped_data
	[ -s "$gen/graph.ckpt" ]
	flip "$gen/graph.ckpt" 3000
	run -4 vec-fsck "$own"
	[[ $output == "derived $gen/graph.ckpt: "*damaged* ]]
	run -1 vec-fsck -r "$own"
	run -0 vec-fsck -v "$own"
	[ -z "$output" ]
	[ -s "$gen/graph.ckpt" ]
}

@test "an index checkpoint that is gone is made again by --repair" {
	stopped_data
	rm "$gen/graph.ckpt"
	run -0 vec-fsck "$own"
	run -1 vec-fsck -r "$own"
	[ -s "$gen/graph.ckpt" ]
	run -0 vec-fsck -v "$own"
	[ -z "$output" ]
	start_daemon "$own" -l debug
	gen_jsonl 1 8 | vec-query docs -k 3 >/dev/null
	run ! grep -q "checkpoint discarded" "$own.log"
}

@test "roster and claim: found, and written again" {
	stopped_data
	flip "${slice%/*}/slices" 17
	run -4 vec-fsck "$own"
	[[ $output == "derived ${slice%/*}/slices:0: is damaged" ]]
	run -1 vec-fsck -r "$own"
	run -0 vec-fsck "$own"
	flip "$slice/mark" 20
	run -4 vec-fsck "$own"
	[[ $output == "derived $slice/mark:0: is damaged"* ]]
	run -1 vec-fsck -r "$own"
	run -0 vec-fsck "$own"
}

@test "a slice that is gone is missed" {
	stopped_data
	mv "$slice" "$BATS_TEST_TMPDIR/away"
	run -4 vec-fsck "$own"
	[[ $output == "damage $slice: is missing, although the roster has it" ]]
}

@test "node.json, catalog.db and the log are damage" {
	stopped_data
	cp -a "$own" "$own.copy"
	flip "$own/node.json" 24
	run -4 vec-fsck "$own"
	[[ $output == *"damage $own/node.json: "*damaged* ]]
	cp "$own.copy/node.json" "$own/node.json"
	rm "$own/catalog.db"
	run -4 vec-fsck "$own"
	[[ $output == *"damage $own/catalog.db: is missing"* ]]
	cp "$own.copy/catalog.db" "$own/catalog.db"
	run -0 vec-fsck "$own"
	# All that is in the log is in the stores as well; mount/stopped.bats has one where it is not.
	local at
	at=$(vec-wal -jr "$own" | jq -s '[.[] | select(.kind == "data")][0].offset')
	flip "$own/wal/0000000001.wal" "$((at + 64 + 30))"
	run -0 vec-fsck -v "$own"
	[[ $output == *"note $own/wal: 0000000001.wal: offset "*"nothing is lost"* ]]
}

@test "a snapshot is read as a restore would read it" {
	make_data
	vec-snap take docs good
	vec-snap take docs bad
	stop_daemon "$own"
	run -0 vec-fsck "$own"
	# A copy: full segments are links of those that are served, and this one is not full.
	flip "$(ls "$own"/snapshots/docs/bad/*.000000.vec | head -n 1)" $((20975616 + 40))
	run -4 vec-fsck "$own"
	[[ $output == "damage $own/snapshots/docs/bad: snapshot 'bad' of 'docs': "*"is damaged: its checksum is not that of the manifest" ]]
	run -4 vec-fsck -r -f "$own"
	rm -r "$own/snapshots/docs/bad"
	run -0 vec-fsck "$own"
}

@test "a first start that was cut off is no damage" {
	local dir=$BATS_TEST_TMPDIR/begun
	mkdir "$dir"
	run -5 --separate-stderr vec-fsck "$dir"
	[[ $stderr == *"empty: no data directory, or an incomplete first start"* ]]
	echo 1 >"$dir/lock"
	run -0 vec-fsck -v "$dir"
	[ "$output" = "note $dir: an incomplete first start: start the daemon to finish it" ]
	# Not with what comes later beside it.
	mkdir "$dir/shard-000"
	run ! vec-fsck "$dir"
}

@test "no directory, no collection, a wrong command line" {
	run -5 vec-fsck "$BATS_TEST_TMPDIR/none/none"
	run -2 vec-fsck
	run -2 vec-fsck -f docs
	run -2 vec-fsck -r docs
}

@test "findings as JSON Lines" {
	stopped_data
	flip "$gen/000000.vec" $((4096 + 700 * 64 + 9))
	run -4 vec-fsck -j -s "$own"
	jq -es 'map(select(.level == "damage"))[0] | .offset == 48896 and (.reason | test("slot 700"))' <<<"$output"
	jq -es '.[-1].damage == 1' <<<"$output"
}
