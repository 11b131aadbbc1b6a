#!/usr/bin/env bats
# The tree: collections, settings, the node's control files.
load helper

@test "a collection has the files of the manual" {
	same "$(ls "$D" | tr '\n' ' ')" \
		"append config delete done export.jsonl failed ids inbox index near q query schema.json snapshots stats vec "
	same "$(ls "$D/index" | tr '\n' ' ')" "ctl progress state "
	same "$(ls -A "$MNT/.vecfs" | tr '\n' ' ')" "config cpu error_log socket stats version "
}

@test "mkdir creates, rmdir drops an empty collection" {
	mkdir "$MNT/fresh"
	[ -d "$MNT/fresh/vec" ]
	rmdir "$MNT/fresh"
	[ ! -e "$MNT/fresh" ]
	mkdir "$MNT/fresh"
	same "$(ls "$MNT/fresh/vec" | wc -l)" 0
	rmdir "$MNT/fresh"
}

@test "rmdir of a collection with records is ENOTEMPTY" {
	three
	fails "Directory not empty" rmdir "$D"
	logged "ENOTEMPTY $C: "
	rm "$D"/vec/*.json
	rmdir "$D"
	[ ! -e "$D" ]
}

@test "bad collection names are EINVAL, a second mkdir is EEXIST" {
	fails "Invalid argument" mkdir "$MNT/a b"
	logged "EINVAL a b: "
	fails "Invalid argument" mkdir "$MNT/$(printf 'n%.0s' $(seq 1 65))"
	fails "File exists" mkdir "$D"
}

@test "directories and files are made only where they mean something" {
	fails "not permitted" mkdir "$D/sub"
	fails "not permitted" mkdir "$D/vec/sub"
	fails "not permitted" touch "$MNT/file"
	fails "not permitted" touch "$D/file"
	fails "not permitted" rm -f "$D/schema.json"
	fails "not permitted" rmdir "$D/vec"
	fails "not permitted" rmdir "$MNT/.vecfs"
	fails "not permitted" mv "$D/schema.json" "$D/other"
	same "$(wc -l <"$MNT/.vecfs/error_log")" 8
}

@test "schema.json shows the dimension once the first record fixed it" {
	same "$(jq .dim "$D/schema.json")" 0
	three
	same "$(jq .dim "$D/schema.json")" 3
	same "$(jq -r .metric "$D/schema.json")" cosine
	same "$(stat -c %s "$D/schema.json")" "$(cat "$D/schema.json" | wc -c)"
}

@test "schema.json can be written before data and not after" {
	echo '{"dim":2,"metric":"l2"}' >"$D/schema.json"
	same "$(jq -c '[.dim,.metric]' "$D/schema.json")" '[2,"l2"]'
	run bash -c "echo '[1,2,3]' > '$D/vec/a.json'"
	[ "$status" -ne 0 ]
	echo '[3,4]' >"$D/vec/a.json"
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo '{\"metric\":\"ip\"}' > '$D/schema.json'"
	[ "$status" -ne 0 ]
	[[ "$output" == *"not permitted"* ]]
	logged "EPERM $C/schema.json: "
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo '{\"no such key\":1}' > '$D/schema.json'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/schema.json: "
}

@test "config/ shows and takes settings" {
	three
	same "$(cat "$D/config/k")" 10
	echo 1 >"$D/config/k"
	same "$(cat "$D/config/k")" 1
	same "$(wc -l <"$D/near/a")" 1
	printf 2 >"$D/config/k"
	same "$(wc -l <"$D/near/a")" 2
	for f in "$D"/config/*; do
		cat "$f" >/dev/null
		same "$(stat -c %s "$f")" "$(cat "$f" | wc -c)"
	done
}

@test "a bad value is EINVAL, an unknown setting does not exist" {
	run bash -c "echo zero > '$D/config/k'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/config/k: "
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo 1 > '$D/config/nonsense'"
	[ "$status" -ne 0 ]
	[ ! -e "$D/config/nonsense" ]
}

@test "stats and index say what is there" {
	three
	same "$(awk '$1 == "count" {print $2}' "$D/stats")" 3
	same "$(awk '$1 == "dim" {print $2}' "$D/stats")" 3
	[[ "$(cat "$D/index/state")" =~ ^(ready|indexing|unloaded)$ ]]
	same "$(awk '$1 == "records" {print $2}' "$D/index/progress")" 3
	grep -q '^percent ' "$D/index/progress"
	grep -qx 'compactions 0' "$D/index/progress"
	echo compact > "$D/index/ctl"
	for _ in $(seq 1 200); do
		grep -qx 'compactions 1' "$D/index/progress" && break
		sleep 0.05
	done
	grep -qx 'compactions 1' "$D/index/progress"
	same "$(awk '$1 == "records" {print $2}' "$D/index/progress")" 3
	run bash -c "echo shrink > '$D/index/ctl'"
	[ "$status" -ne 0 ]
	grep -q "'shrink' is none of compact" "$MNT/.vecfs/error_log"
}

@test ".vecfs says version, cpu, stats and socket" {
	grep -qE '^vecfs [0-9]' "$MNT/.vecfs/version"
	grep -q '^simd ' "$MNT/.vecfs/cpu"
	grep -q '^uptime_s ' "$MNT/.vecfs/stats"
	same "$(cat "$MNT/.vecfs/socket")" "$DATA.sock"
}

@test "the error log is cleared by truncation and by nothing else" {
	fails "not permitted" touch "$MNT/file"
	same "$(wc -l <"$MNT/.vecfs/error_log")" 1
	run bash -c "echo x >> '$MNT/.vecfs/error_log'"
	[ "$status" -ne 0 ]
	same "$(wc -l <"$MNT/.vecfs/error_log")" 2
	truncate -s 0 "$MNT/.vecfs/error_log"
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "a refusal has time, errno, path and reason on one line" {
	fails "not permitted" touch "$MNT/file"
	logged '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z EPERM file: .+'
}

@test "the node's options are shown" {
	[ "$(ls "$MNT/.vecfs/config" | wc -l)" -gt 0 ]
	same "$(cat "$MNT/.vecfs/config/shards")" "$VECFS_TEST_SHARDS"
	run bash -c "echo 9 > '$MNT/.vecfs/config/shards'"
	[ "$status" -ne 0 ]
	logged "EPERM .vecfs/config/shards: "
}

@test "read-only files cannot be written, streams cannot be read" {
	run bash -c "echo 1 > '$D/stats'"
	[ "$status" -ne 0 ]
	logged "EACCES $C/stats: "
	: >"$MNT/.vecfs/error_log"
	fails "Permission denied" cat "$D/append"
	logged "EACCES $C/append: "
}

@test "df shows the space of the data directory" {
	same "$(stat -f -c %b "$MNT")" "$(stat -f -c %b "$DATA")"
	same "$(stat -f -c %T "$MNT")" fuseblk || [ "$(findmnt -n -o FSTYPE "$MNT")" = fuse.vecfs ]
}

@test "inode numbers are stable" {
	three
	local a
	a=$(stat -c %i "$D/vec/a.json")
	same "$(stat -c %i "$D/vec/a.json")" "$a"
	same "$(ls -i "$D/vec/a.json" | awk '{print $1}')" "$a"
	same "$(ls -i "$D/vec" | awk '/a.json/ {print $1}')" "$a"
	[ "$a" != "$(stat -c %i "$D/vec/b.json")" ]
}

@test "a dropped collection is gone for those who stand in it" {
	cd "$D"
	rmdir "$D"
	run ls vec
	[ "$status" -ne 0 ]
	cd /
}

@test "a setting that is written in place may be cut behind what was written, and nowhere else" {
	python3 - "$D/config/k" <<'EOF'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
assert os.pwrite(fd, b"7\n", 0) == 2
os.ftruncate(fd, 2)
try:
    os.ftruncate(fd, 1)
    assert False, "it was cut"
except OSError as e:
    assert e.errno == errno.EINVAL
os.close(fd)
EOF
	same "$(cat "$D/config/k")" 7
}
