#!/usr/bin/env bats
# Damage in the middle of the log, as a person meets it: what is stopped, what goes on, what is said, and the way back.

load helper

# bats may be told another number: this is about several.
VECFS_TEST_SHARDS=4

setup_file() {
	need_fuse
}

setup() {
	own=$BATS_TEST_TMPDIR/own mnt=$BATS_TEST_TMPDIR/mnt
	export VECFS_SOCKET=$own.sock
}

teardown() {
	stop_daemon "$own" "$mnt" || return 1
	umount -l "$mnt" 2>/dev/null || true
}

group_of_shard() { # N
	echo $(($1 + 2))
}

# Wipes out one flush that has an entry of the group of shard $1 alone and is followed by others.
wipe_flush() {
	local at
	at=$("$VECFS_BIN/vec-wal" -j "$own" | jq -rs --argjson g "$(group_of_shard "$1")" '
		reduce .[] as $x ({f: null, hits: []};
			if $x.frame and $x.records and ($x.type | not) then .f = {at: $x.offset, n: $x.records}
			elif $x.kind == "data" and $x.group == $g and .f.n == 1 then .hits += [.f.at] else . end)
		| .hits[(.hits | length) / 2 | floor]')
	[ -n "$at" ] && [ "$at" != null ]
	dd if=/dev/zero of="$own/wal/0000000001.wal" bs=4096 seek=$((at / 4096)) count=1 conv=notrunc status=none
}

shard_of() { # COLLECTION: of a collection in one shard
	sqlite3 "$own/catalog.db" "SELECT p.shard FROM place p JOIN coll c USING (cid) WHERE c.name = '$1'" 2>/dev/null
}

@test "the shard that is concerned is stopped, and everything else goes on" {
	start_daemon "$own" "$mnt"
	for c in a b c d; do
		mkdir "$mnt/$c"
		for i in 1 2 3 4 5 6 7 8; do
			echo "[0.$i, 1, 2]" >"$mnt/$c/vec/r$i.json"
		done
	done
	stop_daemon "$own" "$mnt" KILL
	umount -l "$mnt" 2>/dev/null || true
	# Each is in a shard of its own, in the order in which they were made.
	wipe_flush 2

	start_daemon "$own" "$mnt"
	grep -q 'shard 2 is stopped, its log is damaged: 0000000001.wal: offset' "$own.log"
	grep -q 'group_4 role=stopped' "$mnt/.vecfs/stats"
	for c in a b d; do
		[ "$(find "$mnt/$c/vec" -name 'r*.json' | wc -l)" -eq 8 ]
		jq -e '.vector | length == 3' "$mnt/$c/vec/r8.json"
		echo '[9, 9, 9]' >"$mnt/$c/vec/new.json"
	done
	run cat "$mnt/c/vec/r1.json"
	[ "$status" -ne 0 ]
	grep -q ' EIO c/vec/r1.json: shard 2 is stopped, its log is damaged' "$mnt/.vecfs/error_log"
	run "$VECFS_BIN/vec-fsck" "$own"
	[ "$status" -eq 4 ]
	[[ $output == *"shard 2 is out of service: 0000000001.wal: offset"* ]]
	run "$VECFS_BIN/vec-fsck" -v "$own"
	[[ $output != *"does not belong"* ]]
	# Offline only.
	run "$VECFS_BIN/vec-fsck" --accept-loss 2 "$own"
	[ "$status" -ne 0 ]
	[[ $output == *"is in use by another vecfsd"* ]]
	run sh -c "echo '[9, 9, 9]' >$mnt/c/vec/new.json"
	[ "$status" -ne 0 ]
	run ls "$mnt/c/vec"
	[ "$status" -ne 0 ]
	run "$VECFS_BIN/vec-query" c <<<'[1,1,2]'
	echo "$output"
	[ "$status" -ne 0 ]
	[[ $output == *"shard 2 is stopped"* ]]
	grep -q 'shard 2 is stopped, its log is damaged' "$mnt/.vecfs/error_log"
	# It may have records: it is not dropped for want of them.
	run rmdir "$mnt/c"
	[ "$status" -ne 0 ]
	mkdir "$mnt/e"
	echo '[1, 2, 3]' >"$mnt/e/vec/x.json"
	jq -e '.id == "x"' "$mnt/e/vec/x.json"
	stop_daemon "$own" "$mnt"

	# The evidence, the verdict, and what vec-fsck says of them.
	[ -s "$own/wal/0000000001.damaged" ]
	grep -q '0000000001.wal: offset' "$own/wal/stopped-0000000004"
	run "$VECFS_BIN/vec-fsck" "$own"
	[ "$status" -eq 4 ]
	[[ $output == *"damage "*"0000000001.wal: offset"* ]]
	[ "$(grep -c '^damage' <<<"$output")" -eq 1 ]

	# The way back.
	run "$VECFS_BIN/vec-fsck" --accept-loss 1 "$own"
	[ "$status" -ne 0 ]
	[[ $output == *"has lost nothing"* ]]
	run "$VECFS_BIN/vec-fsck" --accept-loss 2 -r "$own"
	[ "$status" -eq 2 ]
	run "$VECFS_BIN/vec-fsck" --accept-loss 2 "$BATS_TEST_TMPDIR"
	[ "$status" -ne 0 ]
	[[ $output == *"node.json: No such file"* ]]
	run "$VECFS_BIN/vec-fsck" --accept-loss two "$own"
	[ "$status" -ne 0 ]
	[[ $output == *"neither the number of a shard nor 'catalog'"* ]]
	run "$VECFS_BIN/vec-fsck" --accept-loss 2 "$own"
	[ "$status" -eq 0 ]
	[[ $output == *"shard 2: in service again"* ]]
	[ ! -e "$own/wal/stopped-0000000004" ]
	start_daemon "$own" "$mnt"
	# The daemon died, not the machine: the store had all of it.
	[ "$(find "$mnt/c/vec" -name 'r*.json' | wc -l)" -eq 8 ]
	echo '[9, 9, 9]' >"$mnt/c/vec/new.json"
	stop_daemon "$own" "$mnt" KILL
	umount -l "$mnt" 2>/dev/null || true
	start_daemon "$own" "$mnt"
	jq -e '.vector == [9, 9, 9]' "$mnt/c/vec/new.json"
	[ "$(cat "$mnt"/[abd]/vec/new.json | grep -c 9)" -eq 3 ]
	stop_daemon "$own" "$mnt"
}
