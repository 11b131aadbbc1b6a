#!/usr/bin/env bats
# query, near/, q/.
load helper

ask() { # FILE QUESTION: on one descriptor
	local fd
	exec {fd}<>"$1"
	printf '%s\n' "$2" >&"$fd"
	cat <&"$fd"
	exec {fd}>&-
}

@test "a question and its answer on one descriptor" {
	three
	run -0 ask "$D/query" '[0.1,0.2,0.3]'
	same "${#lines[@]}" 3
	[[ "${lines[0]}" =~ ^0$'\t'1$'\t'a$'\t'(0|[0-9.e-]+)$ ]]
	same "$(cut -f3 <<<"$output" | tr '\n' ' ')" "a b c "
	same "$(cut -f2 <<<"$output" | tr '\n' ' ')" "1 2 3 "
}

@test "many questions one after another on a held descriptor" {
	three
	exec 5<>"$D/query"
	for _ in 1 2 3; do
		echo '[0.9,0.1,0]' >&5
		same "$(head -n 1 <&5 | cut -f3)" c
		echo '{"id":"a","k":1}' >&5
		same "$(cut -f3 <&5)" b
	done
	exec 5>&-
}

@test "one who asks without a pause keeps nobody else waiting" {
	three
	(
		exec 5<>"$D/query.ids"
		while [ ! -e "$BATS_TEST_TMPDIR/enough" ]; do
			echo '[0.9,0.1,0]' >&5
			read -r _ <&5
		done
	) &
	local asker=$! i
	for i in $(seq 50); do
		same "$(ask "$D/query" '{"id":"a","k":1,"exact":true}' | cut -f3)" b
		echo '{"id":"n'"$i"'","vector":[-1,-1,'"$i"']}' >"$D/append"
		grep -q "^count $((3 + i))\$" "$D/stats"
	done
	touch "$BATS_TEST_TMPDIR/enough"
	wait $asker
}

@test "bare numbers, an object, k, format, with" {
	three
	same "$(ask "$D/query" '0.1 0.2 0.3' | cut -f3 | head -1)" a
	same "$(ask "$D/query" '0.1, 0.2, 0.3' | cut -f3 | head -1)" a
	same "$(ask "$D/query" '{"vector":[0.1,0.2,0.3],"k":2}' | wc -l)" 2
	same "$(ask "$D/query" '{"vector":[0.1,0.2,0.3],"k":2,"format":"ids"}' | tr '\n' ' ')" "a b "
	same "$(ask "$D/query" '{"vector":[0.1,0.2,0.3],"format":"json"}' | jq -c '[.hits[].id]')" '["a","b","c"]'
	same "$(ask "$D/query" '{"vector":[0.1,0.2,0.3],"k":1,"format":"jsonl","with":["vector"]}' | jq -c '.vector')" '[0.1,0.2,0.3]'
}

@test "the form of the answer by the name: query.ids query.json query.jsonl query.tsv, k=" {
	three
	same "$(ask "$D/query.ids" '[0.1,0.2,0.3]' | tr '\n' ' ')" "a b c "
	same "$(ask "$D/query.json" '[0.1,0.2,0.3]' | jq '.hits | length')" 3
	same "$(ask "$D/query.jsonl" '[0.1,0.2,0.3]' | jq -s 'length')" 3
	same "$(ask "$D/query.tsv,k=2" '[0.1,0.2,0.3]' | wc -l)" 2
	same "$(ask "$D/query,k=1,format=ids" '[0.1,0.2,0.3]')" a
	[ ! -e "$D/query.xml" ]
	fails "Invalid argument" cat "$D/query,k=0"
	logged "EINVAL $C/query,k=0: "
}

@test "a raw float32 question" {
	three
	exec 5<>"$D/query.ids"
	f32 0.9 0.1 0 >&5
	same "$(cat <&5 | head -1)" c
	f32 0.1 0.2 0.3 >&5
	same "$(cat <&5 | head -1)" a
	exec 5>&-
}

@test "raw questions in every order of calls, by one and by three at once" {
	echo l2 >"$D/config/metric"
	awk 'BEGIN { for (i = 0; i < 500; i++) printf "{\"id\":\"%d\",\"vector\":[%d,0,0]}\n", i, i }' >"$D/append"
	"$VECFS_BIN/../tests/mount/asks" "$D" 500 300
	local i p=()
	for i in 1 2 3; do
		SEED=$((RANDOM * 3 + i)) "$VECFS_BIN/../tests/mount/asks" "$D" 500 100 &
		p+=($!)
	done
	for i in "${p[@]}"; do
		wait "$i"
	done
}

@test "many questions at once as JSON Lines, numbered or named, in order" {
	three
	exec 5<>"$D/query"
	{
		for i in $(seq 1 70); do echo '{"id":"a","k":1}'; done
		echo '{"id":"b","k":1,"query":"mine"}'
	} >"$BASE/many"
	cat "$BASE/many" >&5
	cat <&5 >"$BASE/answers"
	exec 5>&-
	same "$(wc -l <"$BASE/answers")" 71
	same "$(cut -f1 "$BASE/answers" | head -70)" "$(seq 0 69)"
	same "$(tail -1 "$BASE/answers" | cut -f1,3)" "mine	a"
}

@test "reading before asking is ENODATA" {
	three
	run cat "$D/query"
	[ "$status" -ne 0 ]
	[[ "$output" == *"No data available"* ]]
	logged "ENODATA $C/query: "
}

@test "asking an empty collection is ENODATA" {
	run bash -c "echo '[1,2,3]' > '$D/query'"
	[ "$status" -ne 0 ]
	[[ "$output" == *"No data available"* ]]
	logged "ENODATA $C/query: "
}

@test "wrong dimension, NaN, zeros, k, unknown keys, garbage are EINVAL in the write" {
	three
	for bad in '[1,2]' '[1,2,NaN]' '[0,0,0]' '{"vector":[1,2,3],"k":0}' '{"vector":[1,2,3],"k":100001}' '{"vector":[1,2,3],"foo":1}' 'hello' '{}' '[]' '[1,2,3]]'; do
		: >"$MNT/.vecfs/error_log"
		run bash -c "printf '%s\n' '$bad' > '$D/query'"
		[ "$status" -ne 0 ] || { echo "accepted: $bad" >&2; false; }
		[[ "$output" == *"Invalid argument"* ]]
		logged "EINVAL $C/query: "
	done
}

@test "a later version's key is EOPNOTSUPP, an unknown id ENOENT" {
	three
	run bash -c "echo '{\"vector\":[1,2,3],\"filter\":\"x\"}' > '$D/query'"
	[ "$status" -ne 0 ]
	logged "EOPNOTSUPP $C/query: .*filter"
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo '{\"id\":\"nobody\"}' > '$D/query'"
	[ "$status" -ne 0 ]
	logged "ENOENT $C/query: "
}

@test "a bad line among many questions is named" {
	three
	printf '%s\n' '{"id":"a"}' '{"id":"b"}' '[1,2]' '{"id":"c"}' >"$BASE/lines"
	run bash -c "cat '$BASE/lines' > '$D/query'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/query:3: "
}

@test "half a question at close is EINVAL" {
	three
	run python3 - "$D/query" <<-'PY'
		import os, sys, errno
		fd = os.open(sys.argv[1], os.O_RDWR)
		os.write(fd, b'{"vector":[1,')
		try:
		    os.close(fd)
		except OSError as e:
		    sys.exit(7 if e.errno == errno.EINVAL else 8)
	PY
	[ "$status" -eq 7 ]
	logged "EINVAL $C/query: "
}

@test "pread from 0 reads the answer, whatever the file offset is" {
	three
	run -0 python3 - "$D/query.ids" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1], os.O_RDWR)
		for want in ("a", "c", "a"):
		    q = {"a": b"[0.1,0.2,0.3]\n", "c": b"[0.9,0.1,0]\n"}[want]
		    os.pwrite(fd, q, 0)
		    got = os.pread(fd, 100, 0)
		    assert got.split()[0].decode() == want, got
		    # A second read of the same answer, in pieces.
		    assert os.pread(fd, 2, 0) + os.pread(fd, 2, 2) == got[:4]
	PY
}

@test "near/ID leaves the record out and takes options" {
	three
	same "$(cut -f3 "$D/near/a" | tr '\n' ' ')" "b c "
	same "$(cut -f3 "$D/near/a,k=1")" b
	same "$(cat "$D/near/a,k=1,format=ids")" b
	same "$(jq -c '[.hits[].id]' "$D/near/a,format=json")" '["b","c"]'
	same "$(cat "$D/near/a,exact=1" | wc -l)" 2
	same "$(ls "$D/near")" ""
}

@test "near/ of an unknown id is ENOENT, of a bad option EINVAL" {
	three
	fails "No such file" cat "$D/near/nobody"
	fails "No such file" cat "$D/near/a,b"
	fails "Invalid argument" cat "$D/near/a,k=0"
	logged "EINVAL $C/near/a,k=0: "
	: >"$MNT/.vecfs/error_log"
	fails "Invalid argument" cat "$D/near/a,k=1000000"
	logged "EINVAL $C/near/a,k=1000000: "
}

@test "a comma may belong to the id" {
	echo '[1,2,3]' >"$D/vec/p,k=1.json"
	echo '[1,2,4]' >"$D/vec/q.json"
	same "$(cut -f3 "$D/near/p,k=1")" q
	same "$(cut -f3 "$D/near/p,k=1,k=1")" q
}

@test "the size of an answer is right while it is open" {
	three
	run -0 python3 - "$D/near/a" <<-'PY'
		import os, sys
		f = open(sys.argv[1], "rb")
		assert os.fstat(f.fileno()).st_size == len(f.read()) > 0
	PY
}

@test "a named question is written once and answered afresh" {
	three
	echo '{"vector":[0.1,0.2,0.3],"k":2}' >"$D/q/mine"
	same "$(ls "$D/q")" mine
	same "$(cut -f3 "$D/q/mine" | tr '\n' ' ')" "a b "
	same "$(tr '\n' ' ' <"$D/q/mine.ids")" "a b "
	same "$(jq -c '[.hits[].id]' "$D/q/mine.json")" '["a","b"]'
	same "$(jq -s length "$D/q/mine.jsonl")" 2
	same "$(cat "$D/q/mine.tsv")" "$(cat "$D/q/mine")"
	echo '[0.1,0.2,0.3001]' >"$D/vec/new.json"
	same "$(tr '\n' ' ' <"$D/q/mine.ids")" "a new "
	echo '{"id":"c","k":1}' >"$D/q/mine"
	same "$(wc -l <"$D/q/mine")" 1
	rm "$D/q/mine"
	same "$(ls "$D/q")" ""
	fails "No such file" cat "$D/q/mine.ids"
}

@test "a named question of raw float32, of numbers, of many lines" {
	three
	f32 0.9 0.1 0 >"$D/q/raw"
	same "$(head -1 "$D/q/raw.ids")" c
	printf '0.1 0.2 0.3' >"$D/q/bare"
	same "$(head -1 "$D/q/bare.ids")" a
	printf '%s\n' '{"id":"a","k":1}' '{"id":"b","k":1}' >"$D/q/two"
	same "$(cut -f1,3 "$D/q/two" | tr '\n\t' ' -')" "0-b 1-a "
}

@test "a bad named question is refused where it is written" {
	three
	run bash -c "echo '{\"vector\":[1,2,3],\"k\":-1}' > '$D/q/bad'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/q/bad: "
	gone "$D/q/bad"
	: >"$MNT/.vecfs/error_log"
	run bash -c "echo 'what is this' > '$D/q/bad'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/q/bad: "
}

@test "a named question that the collection can never answer is refused where it is written" {
	three
	local q
	for q in '{"vector":[1,2]}' '{"vector":[0,0,0]}' '[1,2,3,4]' '{"id":"a"}
{"vector":[1,2]}'; do
		: >"$MNT/.vecfs/error_log"
		run bash -c "echo '$q' | cat > '$D/q/bad'"
		[ "$status" -ne 0 ]
		logged "EINVAL $C/q/bad"
		gone "$D/q/bad"
	done
	: >"$MNT/.vecfs/error_log"
	run bash -c "head -c 12 /dev/zero > '$D/q/bad'"
	[ "$status" -ne 0 ]
	logged "EINVAL $C/q/bad: .*zero"
	# Records may come later, and so may the whole collection.
	echo '{"id":"nope"}' >"$D/q/later"
	mkdir "$MNT/empty$BATS_TEST_NUMBER"
	echo '[1,2]' >"$MNT/empty$BATS_TEST_NUMBER/q/early"
}

@test "a question in words uses the collection's hash embedder; others are left to the tools" {
	echo '{"dim":64}' >"$D/schema.json"
	python3 - >"$D/append" <<-'PY'
		import json
		for i in range(20):
		    v = [0.0] * 64
		    v[i] = 1.0
		    print(json.dumps({"id": "t%d" % i, "vector": v}))
	PY
	same "$(ask "$D/query" '{"text":"how do I delete a record","k":5}' | wc -l)" 5
	echo 'cmd:cat' >"$D/config/embedder"
	run bash -c "echo '{\"text\":\"hello\"}' > '$D/query'"
	[ "$status" -ne 0 ]
	logged "EOPNOTSUPP $C/query: .*vec-query --text"
}

@test "mv renames a question, in place of another, and its answers follow" {
	three
	echo '{"id":"a","k":1}' >"$D/q/one"
	echo '{"id":"c","k":1}' >"$D/q/two"
	mv "$D/q/one" "$D/q/three"
	same "$(ls "$D/q" | tr '\n' ' ')" "three two "
	same "$(cat "$D/q/three.ids")" "$(cat "$D/near/a,k=1,format=ids")"
	fails "No such file" cat "$D/q/one"
	mv "$D/q/three" "$D/q/two"
	same "$(ls "$D/q")" two
	same "$(cat "$D/q/two.ids")" "$(cat "$D/near/a,k=1,format=ids")"
	mv -n "$D/q/two" "$D/q/two2"
	same "$(ls "$D/q")" two2
	fails "Bad message" mv "$D/q/two2" "$D/q/.hidden"
	grep -q "EBADMSG $C/q/two2: a question's name does not start with '.'" "$MNT/.vecfs/error_log"
}
