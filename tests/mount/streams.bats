#!/usr/bin/env bats
# append, delete, ids, export.jsonl.
load helper

@test "append takes JSON Lines, committed when the write returns" {
	printf '%s\n' '{"id":"a","vector":[1,2,3]}' '{"id":"b","vector":[1,2,4],"meta":{"x":1}}' >"$D/append"
	same "$(sort "$D/ids" | tr '\n' ' ')" "a b "
	exec 5>"$D/append"
	echo '{"id":"c","vector":[1,2,5]}' >&5
	[ -e "$D/vec/c.json" ]
	exec 5>&-
}

@test "append puts lines together that come in pieces" {
	printf '{"id":"a","vector":[1,2,3]}\n{"id":"b","vector":[1,2,4]}\n' | dd of="$D/append" bs=5 2>/dev/null
	same "$(sort "$D/ids" | tr '\n' ' ')" "a b "
}

@test "cat of a file of thousands of lines" {
	seq 1 3000 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$BASE/l.jsonl"
	cat "$BASE/l.jsonl" >"$D/append"
	same "$(wc -l <"$D/ids")" 3000
}

@test "a bad line is refused with its number; the lines before it are kept" {
	run bash -c "printf '%s\n' '{\"id\":\"a\",\"vector\":[1,2,3]}' '{\"id\":\"b\",\"vector\":[1]}' '{\"id\":\"c\",\"vector\":[1,2,3]}' | cat > '$D/append'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/append:2: "
	same "$(tr '\n' ' ' <"$D/ids")" "a "
}

@test "a record without an id is refused" {
	run bash -c "echo '[1,2,3]' > '$D/append'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/append:1: "
}

@test "half a line at close is EINVAL, a whole one without newline is taken" {
	run python3 - "$D/append" <<-'PY'
		import os, sys, errno
		fd = os.open(sys.argv[1], os.O_WRONLY)
		os.write(fd, b'{"id":"a","vector":[1,2,3]}\n{"id":"b","vec')
		try:
		    os.close(fd)
		except OSError as e:
		    sys.exit(7 if e.errno == errno.EINVAL else 8)
	PY
	[ "$status" -eq 7 ]
	logged "EINVAL $C/append:2: half a record"
	printf '{"id":"z","vector":[1,2,3]}' >"$D/append"
	same "$(sort "$D/ids" | tr '\n' ' ')" "a z "
}

@test "delete takes ids, one per line; unknown ones do not matter" {
	three
	printf 'a\nnobody\nc\n' >"$D/delete"
	same "$(tr '\n' ' ' <"$D/ids")" "b "
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "delete does not trust an id without its newline" {
	three
	python3 - "$D/delete" <<-'PY'
		import os, sys, errno
		fd = os.open(sys.argv[1], os.O_WRONLY)
		os.write(fd, b"a\nb")
		try:
		    os.close(fd)
		except OSError as e:
		    assert e.errno == errno.EINVAL
	PY
	logged "EINVAL $C/delete:2: "
	same "$(sort "$D/ids" | tr '\n' ' ')" "b c "
}

@test "grep ids > delete" {
	seq 1 500 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	grep 5 "$D/ids" >"$BASE/gone"
	cat "$BASE/gone" >"$D/delete"
	same "$(grep -c 5 "$D/ids")" 0
	same "$(wc -l <"$D/ids")" $((500 - $(wc -l <"$BASE/gone")))
}

@test "export.jsonl gives back what append took" {
	printf '%s\n' '{"id":"a","vector":[1,2,3]}' '{"id":"b","vector":[1,2,4],"meta":{"x":1},"text":"t"}' >"$BASE/e.jsonl"
	cat "$BASE/e.jsonl" >"$D/append"
	sort "$D/export.jsonl" | cmp - "$BASE/e.jsonl"
	mkdir "$MNT/copy$BATS_TEST_NUMBER"
	cat "$D/export.jsonl" >"$MNT/copy$BATS_TEST_NUMBER/append"
	sort "$MNT/copy$BATS_TEST_NUMBER/export.jsonl" | cmp - "$BASE/e.jsonl"
}

@test "ids and export.jsonl with head, tail, wc, grep, dd, cp" {
	seq 1 5000 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	same "$(head -n 1 "$D/ids" | wc -l)" 1
	same "$(tail -n 3 "$D/ids" | wc -l)" 3
	same "$(wc -l <"$D/export.jsonl")" 5000
	same "$(grep -c '"r4' "$D/export.jsonl")" "$(seq 1 5000 | grep -c '^4')"
	same "$(dd if="$D/ids" bs=11 2>/dev/null | wc -l)" 5000
	cp "$D/ids" "$BASE/ids"
	same "$(wc -l <"$BASE/ids")" 5000
	same "$(jq -s length "$D/export.jsonl")" 5000
}

@test "an open stream is a snapshot" {
	three
	exec 5<"$D/ids"
	rm "$D/vec/a.json"
	echo '[1,1,1]' >"$D/vec/new.json"
	same "$(sort <&5 | tr '\n' ' ')" "a b c "
	exec 5<&-
	same "$(sort "$D/ids" | tr '\n' ' ')" "b c new "
}

@test "writers on append are parallel: each has an inode of its own" {
	exec 5>"$D/append" 6>"$D/append"
	local i5 i6
	i5=$(stat -Lc %i "/proc/$$/fd/5")
	i6=$(stat -Lc %i "/proc/$$/fd/6")
	exec 5>&- 6>&-
	[ "$i5" != "$i6" ]
	for w in 1 2 3 4; do
		seq 1 200 | sed "s/.*/{\"id\":\"w$w-&\",\"vector\":[&,$w,2]}/" >"$D/append" &
	done
	wait
	same "$(wc -l <"$D/ids")" 800
}
