#!/usr/bin/env bats
# disk.bats - a full disk, a read-only one, damaged files, a second daemon, a data directory in the mount.
load ../cli/helper.bash

# Every test has a data directory of its own; nothing is shared.
setup_file() { :; }
teardown_file() { :; }

setup() {
	BASE=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-disk.XXXXXX")
	DATA=$BASE/data
	export VECFS_SOCKET=$DATA.sock
}

teardown() {
	stop_daemon "$DATA" 2>/dev/null || true
	check_log "$DATA" || true
	umount "$BASE/disk" 2>/dev/null || true
	rm -rf "$BASE"
}

# rows FROM TO: JSON Lines of dimension 16 with a text that takes room.
rows() {
	awk -v a="$1" -v b="$2" 'BEGIN { for (i = a; i <= b; i++) {
		printf "{\"id\":\"r%d\",\"vector\":[%d", i, i % 97 + 1
		for (j = 1; j < 16; j++) printf ",%d", (i * j) % 89
		printf "],\"text\":\"%04000d\"}\n", i } }'
}

small_disk() {
	mkdir "$BASE/disk"
	mount -t tmpfs -o "size=$1" tmpfs "$BASE/disk" || {
		[ -z "${CI:-}" ] || return 1
		skip "no tmpfs can be mounted here"
	}
	DATA=$BASE/disk/data
	export VECFS_SOCKET=$DATA.sock
}

@test "a full disk refuses writes, loses nothing, and service resumes with room" {
	small_disk 160m
	start_daemon "$DATA" --wal-segment-size 16M
	local n=0 acked=0 rc=0
	while [ $n -lt 60 ]; do
		n=$((n + 1))
		rows $((acked + 1)) $((acked + 1000)) | vec-put -q docs >"$BASE/out" 2>&1 && rc=0 || rc=$?
		[ $rc -eq 0 ] || break
		acked=$((acked + 1000))
	done
	[ $rc -ne 0 ]
	grep -qi 'no space' "$BASE/out"
	[ $acked -gt 1000 ]
	# Reads and questions go on; so do deletes.
	[ "$(vec-get docs r1 | jq -r .id)" = r1 ]
	vec-query docs --near r2 -k 3 -i | grep -q r
	vec-rm -q docs r1 r2 r3
	run -1 vec-get docs r1
	# Room comes back: writes resume without a restart.
	mount -o remount,size=400m "$BASE/disk"
	rows 900001 900010 | vec-put -q docs
	[ "$(vec-get docs r900001 | jq -r .id)" = r900001 ]
	# And everything acknowledged is there after kill -9.
	stop_daemon "$DATA" KILL
	start_daemon "$DATA" --wal-segment-size 16M
	vec-scan -i docs | sort >"$BASE/there"
	{ seq -f 'r%.0f' 4 $acked; seq -f 'r%.0f' 900001 900010; } | sort >"$BASE/acked"
	[ -z "$(comm -23 "$BASE/acked" "$BASE/there")" ]
	! grep -qxE 'r[123]' "$BASE/there"
}

@test "a second daemon on the same data is refused and named" {
	start_daemon "$DATA"
	run -5 vecfsd --no-mount --socket "$BASE/other.sock" "$DATA"
	[[ $output == *"in use by another vecfsd (pid $(cat "$DATA.pid"))"* ]]
	vec-ls
}

@test "a data directory that cannot be written is refused with the reason" {
	mkdir "$BASE/ro"
	mount -t tmpfs -o ro tmpfs "$BASE/ro" || skip "no tmpfs can be mounted here"
	run -1 vecfsd --no-mount --socket "$BASE/x.sock" "$BASE/ro/data"
	umount "$BASE/ro"
	[[ $output == *"$BASE/ro/data"*"Read-only file system"* ]]
	echo text >"$BASE/file"
	run -1 vecfsd --no-mount --socket "$BASE/x.sock" "$BASE/file"
	[[ $output == *"$BASE/file"* ]]
	run -1 vecfsd --no-mount --socket "$BASE/x.sock" "$BASE/no/such/place"
	[[ $output == *"No such file or directory"* ]]
}

@test "a damaged slice stops its collection alone" {
	start_daemon "$DATA"
	for c in good bad; do
		rows 1 50 | vec-put -q $c
	done
	stop_daemon "$DATA"
	local cid db
	cid=$(sqlite3 "$DATA/catalog.db" "SELECT cid FROM coll WHERE name='bad'")
	for db in "$DATA"/shard-*/c-"$cid"/meta.db*; do
		[ -s "$db" ] || continue
		dd if=/dev/urandom of="$db" bs=4096 count=3 conv=notrunc status=none
	done
	start_daemon "$DATA"
	[ "$(vec-scan -i good | wc -l)" -eq 50 ]
	run vec-get bad r1
	[ "$status" -ne 0 ]
	[ "$status" -ne 1 ] # damaged is not "not found"
	[ -n "$output" ]
	rows 51 60 | vec-put -q good
	[ "$(vec-scan -i good | wc -l)" -eq 60 ]
}

@test "a damaged vector costs its record alone" {
	start_daemon "$DATA"
	rows 1 400 | vec-put -q docs
	stop_daemon "$DATA"
	local seg
	seg=$(ls "$DATA"/shard-*/c-*/g-*/000000.vec | head -n 1)
	printf '\377\377\377\377' | dd of="$seg" bs=1 seek=12000 conv=notrunc status=none
	start_daemon "$DATA"
	[ "$(vec-query docs --near r3 -k 5 -i | wc -l)" -eq 5 ] ||
		[ "$(vec-query docs --near r300 -k 5 -i | wc -l)" -eq 5 ]
	timeout 20 vec-index wait docs
	local lost=0 i
	for i in 1 50 100 150 200 250 300 350 400; do
		vec-get docs "r$i" >/dev/null 2>&1 || lost=$((lost + 1))
	done
	[ $lost -le 1 ]
	rows 401 410 | vec-put -q docs
	[ "$(vec-query docs --near r405 -k 3 -i | wc -l)" -eq 3 ]
	stop_daemon "$DATA"
	start_daemon "$DATA"
	[ "$(vec-query docs --near r405 -k 3 -i | wc -l)" -eq 3 ]
}

@test "a damaged identity or log is refused, and nothing is changed" {
	start_daemon "$DATA"
	rows 1 2000 | vec-put -q docs
	stop_daemon "$DATA" KILL
	cp -a "$DATA" "$BASE/copy"
	echo '{' >"$DATA/node.json"
	run -1 vecfsd --no-mount --socket "$BASE/x.sock" "$DATA"
	[[ $output == *node.json*damaged* ]]
	rm "$DATA/node.json"
	run -1 vecfsd --no-mount --socket "$BASE/x.sock" "$DATA"
	[[ $output == *node.json*missing* ]]
	# The middle of the log: the catalog's entry, which was acknowledged before others.  (mount/stopped.bats has those
	# that a shard alone misses.)
	rm -rf "$DATA" && cp -a "$BASE/copy" "$DATA"
	local seg=$DATA/wal/0000000001.wal at
	at=$(vec-wal -jr -g 1 "$DATA" | jq -s '[.[] | select(.kind == "catalog")][0].offset')
	printf 'XXXXXXXX' | dd of="$seg" bs=1 seek=$((at + 64 + 16)) conv=notrunc status=none
	local before
	before=$(cat "$DATA"/wal/*.wal | cksum)
	run -1 vecfsd --no-mount --socket "$BASE/x.sock" "$DATA"
	[[ $output == *"$(basename "$seg"): offset "*"suspect: 1"* ]]
	[ "$before" = "$(cat "$DATA"/wal/*.wal | cksum)" ]
}

@test "the data directory cannot lie inside the mount, nor the mount in it" {
	[ -w /dev/fuse ] || [ -n "${CI:-}" ] || skip "no /dev/fuse"
	mkdir -p "$BASE/m/data" "$BASE/d/m"
	run -1 vecfsd --socket "$BASE/x.sock" "$BASE/m/data" "$BASE/m"
	[[ $output == *inside* || $output == *within* ]]
	run -1 vecfsd --socket "$BASE/x.sock" "$BASE/d" "$BASE/d/m"
	[[ $output == *inside* || $output == *within* ]]
	run ! mountpoint -q "$BASE/m"
	# A place to mount that is not there: nothing is made.
	run -1 vecfsd --socket "$BASE/x.sock" "$BASE/new" "$BASE/nowhere"
	[[ $output == *nowhere*"No such file"* ]]
	[ ! -e "$BASE/new" ]
}

@test "a data directory in the mount of another daemon is refused, and nothing is made there" {
	[ -w /dev/fuse ] || { [ -z "${CI:-}" ] && skip "no /dev/fuse for this user"; }
	mkdir "$BASE/mnt" "$BASE/mnt2"
	vecfsd -d --socket "$DATA.sock" --pid-file "$DATA.pid" "$DATA" "$BASE/mnt"
	run -1 vecfsd -d --socket "$BASE/b.sock" "$BASE/mnt/x" "$BASE/mnt2"
	[[ "$output" = *"is inside a vecfs mount"* ]]
	run vec-ls
	[ -z "$output" ]
}

@test "a relative pid file is written where the daemon was started, and removed at its end" {
	mkdir "$BASE/cwd"
	cd "$BASE/cwd"
	vecfsd -d --no-mount --pid-file pid "$DATA"
	kill "$(cat pid)"
	for _ in $(seq 100); do
		[ -e pid ] || break
		sleep 0.1
	done
	[ ! -e pid ]
}

@test "options are checked where they enter, files by line" {
	run -2 vecfsd --shards many --no-mount "$DATA"
	[[ $output == *shards*many* ]]
	run -2 vecfsd --no-such-option "$DATA" "$BASE"
	[[ $output == *no-such-option* ]]
	run -2 vecfsd "$DATA"
	[[ $output == *MOUNT* ]]
	printf '# comment\n[vecfsd]\nshards = 2\ncolour = blue\n' >"$BASE/conf"
	run -2 vecfsd --config "$BASE/conf" --no-mount "$DATA"
	[[ $output == *"$BASE/conf:4"*colour* ]]
}
