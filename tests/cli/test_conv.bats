#!/usr/bin/env bats
# vec-conv; needs no daemon.
# shellcheck disable=SC2154 # set by run

bats_require_minimum_version 1.5.0

setup_file() {
	PATH=$(cd "${VECFS_BIN:-$BATS_TEST_DIRNAME/../../build/release/bin}" && pwd):$PATH
	export PATH
}

setup() {
	cd "$BATS_TEST_TMPDIR" || return
	for i in $(seq 0 9); do
		printf '{"id":"r%d","vector":[%d,%d,3],"meta":{"n":%d},"text":"t\\\\t%d"}\n' "$i" "$i" $((i * i)) "$i" "$i"
	done >in.jsonl
}

@test "every format carries vectors and ids there and back" {
	for f in tsv npy fvecs bvecs fbin; do
		opt=--ids
		[ "$f" != tsv ] || opt=
		# shellcheck disable=SC2086 # may be no word
		vec-conv -o "x.$f" $opt in.jsonl
		vec-conv "x.$f" | jq -c '[.id,.vector]' >"got.$f"
		diff <(jq -c '[.id,.vector]' in.jsonl) "got.$f"
	done
}

@test "tsv keeps meta and text" {
	vec-conv -t tsv in.jsonl | vec-conv -f tsv | cmp - in.jsonl
}

@test "rows without ids get their numbers, on across files" {
	vec-conv -o x.fvecs in.jsonl
	[ "$(vec-conv x.fvecs x.fvecs | jq -r .id | tr '\n' ' ')" = "$(seq 0 19 | tr '\n' ' ')" ]
	[ "$(vec-conv --id-prefix p --head 2 x.fvecs | jq -r .id | tr '\n' ' ')" = "p0 p1 " ]
	seq 100 109 >ids
	[ "$(vec-conv --ids-from ids --head 2 x.fvecs | jq -r .id | tr '\n' ' ')" = "100 101 " ]
	head -n 3 ids >x.fvecs.ids
	run vec-conv -o /dev/null -t jsonl x.fvecs
	[ "$status" -eq 4 ]
	[[ $output == *"row 4"* ]]
}

@test "the content tells the format where the name does not" {
	for f in npy fvecs bvecs fbin tsv; do
		vec-conv -t "$f" -o x in.jsonl
		[ "$(vec-conv <x | jq -c .vector | tail -n 1)" = '[9,81,3]' ]
	done
}

@test "head and sample choose" {
	[ "$(vec-conv -n 3 in.jsonl | jq -r .id | tr '\n' ' ')" = 'r0 r1 r2 ' ]
	a=$(vec-conv -s 4 --seed 5 in.jsonl | jq -r .id)
	[ "$(wc -l <<<"$a")" = 4 ]
	[ "$(vec-conv -s 4 --seed 5 in.jsonl | jq -r .id)" = "$a" ]
	[ "$(sort <<<"$a")" = "$a" ]
	[ "$(vec-conv -s 100 in.jsonl | jq -r .id | wc -l)" = 10 ]
}

@test "every record has the same chance to be in the sample" {
	for s in $(seq 300); do
		vec-conv -s 3 --seed "$s" in.jsonl
	done | jq -r .id | sort | uniq -c | awk '$1 < 60 || $1 > 120 { bad = 1 } END { exit bad || NR != 10 }'
}

@test "vectors are scaled to length one; zeros are rejected" {
	printf '{"id":"a","vector":[3,4]}\n{"id":"b","vector":[0,0]}\n' >z.jsonl
	run --separate-stderr vec-conv --normalize z.jsonl
	[ "$status" -eq 3 ]
	[ "$output" = '{"id":"a","vector":[0.6,0.8]}' ]
	[[ $stderr == *"z.jsonl:2: a vector of zeros"* ]]
}

@test "what bvecs cannot hold is rejected" {
	printf '{"id":"a","vector":[255]}\n{"id":"b","vector":[256]}\n{"id":"c","vector":[0.5]}\n' >z.jsonl
	run --separate-stderr vec-conv -o z.bvecs z.jsonl
	[ "$status" -eq 3 ]
	[ "${#stderr_lines[@]}" -eq 2 ]
	[ "$(od -An -tu1 z.bvecs | tr -s ' ')" = ' 1 0 0 0 255' ]
}

@test "a file that is cut off is bad data, with the row" {
	vec-conv -o x.fvecs in.jsonl
	truncate -s -1 x.fvecs
	run vec-conv -o y.jsonl x.fvecs
	[ "$status" -eq 4 ]
	[[ $output == *"row 10 is cut off"* ]]
	[ "$(wc -l <y.jsonl)" = 9 ]
}

@test "npy cannot go to a pipe; wrong options are usage" {
	run bash -c "vec-conv -t npy in.jsonl | cat; exit \${PIPESTATUS[0]}"
	[ "$status" -eq 2 ]
	for o in "-t csv" "-f csv" "--head x" "--ids" "--nonsense"; do
		# shellcheck disable=SC2086 # words
		run vec-conv $o in.jsonl
		[ "$status" -eq 2 ]
	done
	vec-conv -t npy in.jsonl >x.npy # a file is fine
	[ "$(vec-conv x.npy | wc -l)" = 10 ]
}

@test "an output that cannot be written is refused" {
	run vec-conv -o /nonexistent/x in.jsonl
	[ "$status" -eq 5 ]
	[ ! -c /dev/full ] || {
		run bash -c 'vec-conv in.jsonl >/dev/full'
		[ "$status" -eq 5 ]
	}
}

@test "a format that is none is said of the option that named it" {
	run vec-conv -t zork
	[ "$status" -eq 2 ]
	[[ $output == "vec-conv: -t: 'zork' is none of "* ]]
	run vec-conv -f zork
	[ "$status" -eq 2 ]
	[[ $output == "vec-conv: -f: 'zork' is none of "* ]]
}

@test "a dimension that changes is told by the first record; there is no collection" {
	printf '%s\n' '{"id":"a","vector":[1,2,3]}' '{"id":"b","vector":[1,2]}' >in.jsonl
	run --separate-stderr vec-conv in.jsonl
	[ "$status" -eq 3 ]
	# shellcheck disable=SC2154 # set by run
	[ "$stderr" = "vec-conv: in.jsonl:2: the vector has 2 numbers; the first one has dimension 3" ]
}
