#!/usr/bin/env bats
# vec-wal: all of the log is shown; what is damaged is named, and what is behind it still shown.

load helper

# $own: a stopped directory with 30 entries of 10 records.
make_log() {
	own=$BATS_TEST_TMPDIR/own
	start_daemon "$own"
	VECFS_SOCKET=$own.sock vec-create docs --dim 4
	gen_jsonl 300 4 | VECFS_SOCKET=$own.sock vec-put -q -b 10 docs
	stop_daemon "$own" KILL
}

frame_offset() { # the N-th frame's
	vec-wal -j "$own" | jq -r "select(.frame and .records and .file and (.type | not)) | .offset" | sed -n "$1p"
}

@test "every entry, with its kind, collection and number of records" {
	make_log
	run -0 vec-wal -j -r "$own"
	[ "$(jq -s '[.[] | select(.kind == "data") | .records] | add' <<<"$output")" -eq 300 ]
	[ "$(jq -s '[.[] | select(.checksum != "ok")] | length' <<<"$output")" -eq 0 ]
	run -0 vec-wal -s "$own"
	[[ $output == *"data_records 300"* ]]
	[[ $output == *"damaged 0"* ]]
}

@test "a group and a range of indexes" {
	make_log
	run -0 vec-wal -j -r -g 2 --from 3 --to 4 "$own"
	[ "$(jq -s 'map(select(.group != 2 or .index < 3 or .index > 4)) | length' <<<"$output")" -eq 0 ]
	[ "$(jq -s 'map(select(.type == "entry")) | length' <<<"$output")" -eq 2 ]
	run -0 vec-wal -r -g 1 "$own"
	[[ $output == *"kind=catalog"* ]]
	[[ $output != *"kind=data"* ]]
}

@test "a damaged payload is named, and all others are shown" {
	make_log
	at=$(vec-wal -jr "$own" | jq -s '[.[] | select(.kind == "data")][5].offset')
	printf '\xee' | dd of="$own/wal/0000000001.wal" bs=1 seek=$((at + 64 + 30)) conv=notrunc status=none
	run -4 vec-wal -r "$own"
	[[ $output == *"damage 0000000001.wal:$((at + 64)): the payload has a wrong checksum"* ]]
	[ "$(grep -c 'kind=data' <<<"$output")" -eq "$(($(grep -c 'entry=command' <<<"$output") - \
		$(grep -c 'kind=catalog\|kind=create\|checksum=wrong' <<<"$output")))" ]
	[ "$(grep -c checksum=wrong <<<"$output")" -eq 1 ]
}

@test "a damaged frame is named, and the ones behind it are shown" {
	make_log
	total=$(vec-wal -s "$own" | awk '$1 == "frames" { print $2 }')
	at=$(frame_offset 6)
	printf '\xee' | dd of="$own/wal/0000000001.wal" bs=1 seek=$((at + 9)) conv=notrunc status=none
	run -4 vec-wal "$own"
	[[ $output == *"damage 0000000001.wal:$at: no frame with a right checksum is here"* ]]
	[ "$(grep -c '^ frame ' <<<"$output")" -eq $((total - 1)) ]
}

@test "a torn last flush is no damage" {
	make_log
	at=$(frame_offset '$')
	printf '\xee' | dd of="$own/wal/0000000001.wal" bs=1 seek=$((at + 100)) conv=notrunc status=none
	run -0 vec-wal "$own"
	[[ $output == *"torn 0000000001.wal:$at: a torn flush"* ]]
}

@test "a damaged header, a missing segment, no log" {
	make_log
	cp -a "$own" other
	printf '\xee' | dd of="$own/wal/0000000001.wal" bs=1 seek=25 conv=notrunc status=none
	run -4 vec-wal "$own"
	[[ $output == *"damage 0000000001.wal:0: wrong header checksum"* ]]
	cp other/wal/0000000001.wal other/wal/0000000003.wal
	run -4 vec-wal other
	[[ $output == *"damage 0000000002.wal:0: is missing"* ]]
	rm other/wal/*.wal
	run -1 vec-wal other
	run -5 vec-wal "$BATS_TEST_TMPDIR/none"
	run -2 vec-wal
}

@test "cut at any block it is shown up to there" {
	make_log
	used=$(vec-wal -s "$own" | awk '$1 == "frames" { print $2 }')
	cp -a "$own" cut
	for n in 1 5 9 10 13 17 24; do
		truncate -s $((n * 4096)) cut/wal/0000000001.wal
		run vec-wal -s cut
		[ "$status" -eq 0 ] || [ "$status" -eq 4 ]
		[[ $output == *"frames "* ]]
		cp "$own/wal/0000000001.wal" cut/wal/
	done
	[ "$used" -gt 5 ]
}
