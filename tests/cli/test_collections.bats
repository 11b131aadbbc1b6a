#!/usr/bin/env bats
# vec-create, vec-drop, vec-ls, vec-stat; what every tool shares.

load helper

@test "every tool explains itself and knows its version" {
	for t in create drop ls put get rm scan query index recall stat bench; do
		run --separate-stderr "vec-$t" --help
		[ "$status" -eq 0 ]
		[[ ${lines[0]} == "usage: vec-$t "* ]]
		[ -z "$stderr" ]
		run "vec-$t" --version
		[ "$status" -eq 0 ]
		[[ $output == "vec-$t (vecfs) "* ]]
	done
}

@test "a wrong command line is status 2 with a hint" {
	run --separate-stderr vec-put --nonsense x
	[ "$status" -eq 2 ]
	[[ $stderr == "vec-put: unknown option '--nonsense' (try 'vec-put --help')" ]]
	run vec-query "$C" -k 0
	[ "$status" -eq 2 ]
	[[ $output == *"-k"*"0 is not within 1..100000"* ]]
	run vec-query "$C" -k 100001
	[ "$status" -eq 2 ]
	run vec-query "$C" -k ten
	[ "$status" -eq 2 ]
	run vec-get
	[ "$status" -eq 2 ]
	[[ $output == *"COLLECTION is missing"* ]]
	run vec-create --metric euclid x
	[ "$status" -eq 2 ]
	run vec-create '.hidden'
	[ "$status" -eq 2 ]
	run vec-index dance "$C"
	[ "$status" -eq 2 ]
	run vec-put -F xml "$C"
	[ "$status" -eq 2 ]
}

@test "what worked says nothing; -v says what was done" {
	run vec-create "$C"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	run vec-drop -v "$C"
	[ "$status" -eq 0 ]
	[ "$output" = "vec-drop: dropped $C" ]
}

@test "every kind of codes answers and is named by ls, stat and the index" {
	for q in sq8 sq4 sq1 none; do
		vec-create "$C-$q" --dim 16 --quant $q
		gen_jsonl 700 16 | vec-put "$C-$q"
		vec-index wait "$C-$q"
		[ "$(vec-ls -j "$C-$q" | jq -r .quant)" = $q ]
		[ "$(vec-index status "$C-$q" | awk '$1 == "quant" { print $2 }')" = $q ]
		near=$(vec-query --near r7 -i -k 5 "$C-$q")
		[ "$(vec-query --near r7 -i -k 5 --exact "$C-$q")" = "$near" ]
		vec-drop --force "$C-$q"
	done
	run vec-create "$C" --dim 8 --quant sq2
	[ "$status" -eq 2 ]
	[[ $output == *"none of sq8, sq4, sq1, none"* ]]
}

@test "create takes its settings, ls and stat show them" {
	vec-create "$C" --metric l2 --dim 7 --m 24 --ef-construction 100 --quant none
	run vec-ls -j "$C"
	[ "$status" -eq 0 ]
	[ "$(jq -r '[.metric,.dim,.m,.ef_construction,.quant,.count] | @csv' <<<"$output")" = \
		'"l2",7,24,100,"none",0' ]
	run vec-ls -t "$C"
	[[ $output == "$C"$'\t0\t7\tl2\thnsw\t'* ]]
	[ "$(vec-stat "$C" | awk '$1 == "dim" { print $2 }')" = 7 ]
	[ "$(vec-stat -j "$C" | jq -r .metric)" = l2 ]
}

@test "create of what exists is refused, --if-missing accepts the same settings" {
	vec-create "$C" --metric l2
	run vec-create "$C" --metric l2
	[ "$status" -eq 5 ]
	[ "$output" = "vec-create: $C exists already" ]
	vec-create --if-missing "$C" --metric l2
	vec-create --if-missing "$C"
	run vec-create --if-missing "$C" --metric cosine
	[ "$status" -eq 5 ]
	[[ $output == "vec-create: $C exists with another metric"* ]]
}

@test "drop refuses a collection with records unless forced" {
	echo '{"id":"a","vector":[1,2]}' | vec-put "$C"
	run vec-drop "$C"
	[ "$status" -eq 5 ]
	[[ $output == *"it has records; --force"* ]]
	[ "$(vec-scan -i "$C")" = a ]
	vec-drop --force "$C"
	run vec-drop "$C"
	[ "$status" -eq 5 ]
	[[ $output == *"$C"* ]]
	vec-drop --if-exists "$C"
}

@test "a dropped name made again is empty, with another dimension" {
	echo '{"id":"a","vector":[1,2]}' | vec-put "$C"
	vec-drop -f "$C"
	echo '{"id":"b","vector":[1,2,3]}' | vec-put "$C"
	[ "$(vec-scan -i "$C")" = b ]
}

@test "ls is sorted and can end its items in NUL" {
	vec-create "$C-b"
	vec-create "$C-a"
	vec-create "$C-c"
	[ "$(vec-ls | grep "^$C-" | tr '\n' ' ')" = "$C-a $C-b $C-c " ]
	[ "$(vec-ls -0 "$C-a" "$C-b" | tr '\0' ' ')" = "$C-a $C-b " ]
	run vec-ls "$C-nope"
	[ "$status" -eq 5 ]
}

@test "stat of the node counts connections" {
	before=$(vec-stat | awk '$1 == "socket_accepted" { print $2 }')
	vec-ls >/dev/null
	after=$(vec-stat | awk '$1 == "socket_accepted" { print $2 }')
	[ "$after" -eq $((before + 2)) ]
	vec-stat -j | jq -e .socket_requests >/dev/null
}

@test "output into a full device is an error" {
	[ -w /dev/full ] || skip "no /dev/full"
	gen_jsonl 10 2 | vec-put "$C"
	run bash -c "vec-scan '$C' >/dev/full"
	[ "$status" -eq 5 ]
	[[ $output == *"standard output"* ]]
}

@test "a reader that goes away ends a tool silently" {
	gen_jsonl 3000 8 | vec-put "$C"
	run --separate-stderr bash -c "vec-scan '$C' | head -n 1"
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 1 ]
	[ -z "$stderr" ]
}
