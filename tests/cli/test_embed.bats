#!/usr/bin/env bats
# vec-embed; needs no daemon.
# shellcheck disable=SC2016,SC2154 # expanded by the program's shell; set by run

bats_require_minimum_version 1.5.0

setup_file() {
	PATH=$(cd "${VECFS_BIN:-$BATS_TEST_DIRNAME/../../build/release/bin}" && pwd):$PATH
	export PATH
}

@test "a line of text becomes a record of unit length, named by its hash" {
	out=$(echo 'hello world' | vec-embed --dim 16)
	[ "$(jq -r .text <<<"$out")" = 'hello world' ]
	[ "$(jq '.vector | length' <<<"$out")" = 16 ]
	[ "$(jq '[.vector[] | . * .] | add | . > 0.9999 and . < 1.0001' <<<"$out")" = true ]
	[[ $(jq -r .id <<<"$out") =~ ^[0-9a-f]{16}$ ]]
	[ "$(echo 'hello world' | vec-embed --dim 16)" = "$out" ]
}

@test "the default dimension is 384" {
	[ "$(echo x | vec-embed | jq '.vector | length')" = 384 ]
}

@test "json lines keep id and meta; other members are left out" {
	out=$(echo '{"id":"a","text":"b","meta":{"k" : 1.10},"x":[1]}' | vec-embed -d 4)
	[[ $out == '{"id":"a","vector":['*'],"meta":{"k":1.10},"text":"b"}' ]]
}

@test "another member can hold the text" {
	out=$(echo '{"id":7,"body":"words","text":"not these"}' | vec-embed --field body -d 4)
	[ "$(jq -r .text <<<"$out")" = words ]
	[ "$(jq -r .id <<<"$out")" = 7 ]
}

@test "paragraphs are set apart by empty lines" {
	out=$(printf '\n\none\ntwo\n \n\nthree\n' | vec-embed -F paragraphs -d 4 | jq -c .text)
	[ "$out" = $'"one\\ntwo"\n"three"' ]
}

@test "empty lines are skipped, the last one needs no newline" {
	[ "$(printf '\n \na\n\nb' | vec-embed -d 2 | jq -r .text)" = $'a\nb' ]
	run --separate-stderr vec-embed </dev/null
	[ "$status" -eq 0 ]
	[ -z "$output" ]
}

@test "a wrong record is told with its line and costs no other" {
	run --separate-stderr vec-embed -d 2 <<<$'{"text":"a"}\n{"id":"x"}\nnonsense\n{"text":"b"}'
	[ "$status" -eq 3 ]
	[ "$(jq -r .text <<<"$output")" = $'a\nb' ]
	[[ ${stderr_lines[0]} == *":2: the record has no text" ]]
	[[ ${stderr_lines[1]} == *":3: "* ]]
}

@test "files come one after the other, - is standard input" {
	echo one >"$BATS_TEST_TMPDIR/1"
	echo '{"text":"three"}' >"$BATS_TEST_TMPDIR/3"
	out=$(echo two | vec-embed -d 2 "$BATS_TEST_TMPDIR/1" - "$BATS_TEST_TMPDIR/3" | jq -r .text)
	[ "$out" = $'one\ntwo\nthree' ]
	run vec-embed "$BATS_TEST_TMPDIR/none"
	[ "$status" -ne 0 ]
	[[ $output == *"No such file"* ]]
}

@test "a program can embed" {
	out=$(printf 'a\nbcd\n' | vec-embed --cmd 'while read -r l; do echo "[${#l},0.5]"; done' | jq -c .vector)
	[ "$out" = $'[1,0.5]\n[3,0.5]' ]
}

@test "a program that dies is told with its status" {
	run vec-embed --cmd 'read l; exit 9' <<<x
	[ "$status" -eq 5 ]
	[[ $output == *"status 9"* ]]
	run vec-embed --cmd 'read l; echo what; cat' <<<x
	[ "$status" -eq 5 ]
	[[ $output == *"no vector"* ]]
}

@test "an endpoint that is not there is: try again later" {
	run vec-embed --embedder 'url:http://127.0.0.1:1/x;retry-ms=1' <<<x
	[ "$status" -eq 75 ]
	[[ $output == *"127.0.0.1:1"* ]]
}

@test "wrong options are usage" {
	for o in "-F csv" "--dim 0" "--dim x" "--cmd a --url http://b" "--model m" "--nonsense" "--embedder what"; do
		# shellcheck disable=SC2086 # words
		run vec-embed $o <<<x
		[ "$status" -eq 2 ]
	done
}

@test "a reader that leaves early is no error" {
	run bash -c "yes 'some text' | head -n 100000 | vec-embed | head -n 1 | wc -l; echo \${PIPESTATUS[3]}"
	[ "${lines[0]}" = 1 ]
	[ "${#lines[@]}" -eq 2 ]
}

@test "while the input pauses, what was read is written" {
	mkfifo "$BATS_TEST_TMPDIR/in"
	vec-embed -d 2 <"$BATS_TEST_TMPDIR/in" >"$BATS_TEST_TMPDIR/out" 3>&- &
	pid=$!
	exec 9>"$BATS_TEST_TMPDIR/in"
	echo first >&9
	for _ in $(seq 100); do
		[ -s "$BATS_TEST_TMPDIR/out" ] && break
		sleep 0.05
	done
	exec 9>&-
	[ "$(jq -r .text "$BATS_TEST_TMPDIR/out")" = first ]
	wait "$pid"
}
