#!/usr/bin/env bats
# vec-query.

# shellcheck disable=SC2154 # stderr is set by run
load helper

put_points() {
	vec-create "$C" --metric l2
	printf '%s\n' '{"id":"origin","vector":[0,0],"text":"the origin","meta":{"n":0}}' \
		'{"id":"east","vector":[1,0],"text":"to the east"}' \
		'{"id":"far","vector":[10,0]}' | vec-put "$C"
}

@test "answers are query, rank, id and distance with tabs" {
	put_points
	[ "$(echo '[0.25,0]' | vec-query "$C")" = \
		$'0\t1\torigin\t0.25\n0\t2\teast\t0.75\n0\t3\tfar\t9.75' ]
	[ "$(echo '[0.25,0]' | vec-query "$C" -k 1 -i)" = origin ]
	[ "$(echo '[0.25,0]' | vec-query "$C" -k 2 -i -0 | tr '\0' ' ')" = "origin east " ]
	[ "$(echo '[0.25,0]' | vec-query "$C" -k 1 -j)" = \
		'{"query":0,"rank":1,"id":"origin","distance":0.25}' ]
}

@test "numbers, arrays, records and objects are questions, named or numbered" {
	put_points
	run vec-query "$C" -k 1 <<-'END'
		[9,0]
		{"vector":[9,0]}
		{"query":"q1","vector":[9,0]}
		{"id":"rec","vector":[1,0],"text":"a record is asked by its vector"}
		{"id":"far","k":1}
		{"query":"q2","vector":[0,0],"k":3}
	END
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = $'0\t1\tfar\t1' ]
	[ "${lines[1]}" = $'1\t1\tfar\t1' ]
	[ "${lines[2]}" = $'q1\t1\tfar\t1' ]
	[ "${lines[3]}" = $'rec\t1\teast\t0' ]
	[ "${lines[4]}" = $'4\t1\teast\t9' ]
	[ "${lines[5]}" = $'q2\t1\torigin\t0' ]
	[ "$(echo '9 0' | vec-query "$C" -k 1)" = $'0\t1\tfar\t1' ]
	[ "$(printf 'name\t9 0\n' | vec-query "$C" -k 1)" = $'name\t1\tfar\t1' ]
}

@test "k of a question counts when the command line is silent" {
	put_points
	[ "$(echo '{"vector":[0,0],"k":2}' | vec-query "$C" | wc -l)" -eq 2 ]
	[ "$(echo '{"vector":[0,0],"k":2}' | vec-query "$C" -k 1 | wc -l)" -eq 1 ]
}

@test "--near leaves the record itself out" {
	put_points
	[ "$(vec-query "$C" --near east -i)" = $'origin\nfar' ]
	run vec-query "$C" --near nope
	[ "$status" -eq 1 ]
	[[ $output == *"nope"* || $output == *"record"* ]]
}

@test "--with prints parts of the records" {
	put_points
	run vec-query "$C" --near east -k 1 -w meta,text
	[ "$(jq -c '[.id,.meta.n,.text]' <<<"$output")" = '["origin",0,"the origin"]' ]
	run vec-query "$C" --near origin -k 1 -w vector
	[ "$(jq -c .vector <<<"$output")" = '[1,0]' ]
	run vec-query "$C" --near origin -w colour
	[ "$status" -eq 2 ]
}

@test "--text asks by the embedder of the collection" {
	printf '%s\n' "how to delete a record" "the weather is fine today" "cooking with garlic" |
		vec-embed | vec-put "$C"
	[ "$(vec-query "$C" --text 'delete records' -k 1 -i | vec-get -w text "$C" | jq -r .text)" = \
		"how to delete a record" ]
	[ "$(echo '{"text":"garlic cooking"}' | vec-query "$C" -k 1 -j -w text | jq -r .text)" = \
		"cooking with garlic" ]
	run vec-query "$C" --text ''
	[ "$status" -eq 2 ]
}

@test "exact and ef agree on a small collection" {
	gen_jsonl 500 8 | vec-put "$C"
	vec-scan -w vector "$C" | head -n 20 >q.jsonl
	[ "$(vec-query "$C" --exact -k 5 -i q.jsonl)" = "$(vec-query "$C" --ef 500 -k 5 -i q.jsonl)" ]
}

@test "every record is its own nearest, asked all at once" {
	gen_jsonl 1000 8 | vec-put "$C"
	vec-scan -w vector "$C" >all.jsonl
	vec-query "$C" --ef 200 -k 1 all.jsonl | awk -F '\t' '$1 != $3 { bad++ } END { exit bad > 0 || NR != 1000 }'
}

@test "a bad question is reported with its line; the others are answered" {
	put_points
	run --separate-stderr vec-query "$C" -k 1 -i <<-'END'
		[1,2,3]
		nonsense
		{"vector":[1,0],"filter":"x"}
		{"vector":[1,0],"k":0}
		[10,0]
	END
	[ "$status" -eq 3 ]
	[ "$output" = far ]
	for line in 1 2 3; do
		[[ $stderr == *"stdin:$line: "* ]]
	done
	run bash -c "echo '[1,2,3]' | vec-query '$C'"
	[ "$status" -eq 4 ]
	[[ $output == *"dimension 2"* ]]
	# Asked together they are told apart as well.
	run bash -c "printf '[1,2,3]\n[3,2,1]\n' | vec-query '$C'"
	[ "$status" -eq 4 ]
	[[ ${lines[1]} == "vec-query: stdin:2: the question has 3 numbers; this collection has dimension 2" ]]
	run --separate-stderr bash -c "printf '{\"id\":\"no\"}\n{\"id\":\"far\"}\n' | vec-query '$C' -k 1 -i"
	[ "$status" -eq 3 ]
	[ "$output" = east ]
	[[ $stderr == *"stdin:1: "* ]]
}

@test "no question, no records, no collection" {
	put_points
	run bash -c ": | vec-query '$C'"
	[ "$status" -eq 4 ]
	[[ $output == *"no question"* ]]
	vec-create "$C-empty"
	run bash -c "echo '[1,2]' | vec-query '$C-empty'"
	[ "$status" -eq 1 ]
	run bash -c "echo '[1,2]' | vec-query '$C-none'"
	[ "$status" -eq 5 ]
	[[ $output == *"$C-none"* ]]
	run bash -c "echo '[0,0]' | vec-query '$C' -k 100000"
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 3 ]
}

@test "as a coprocess it answers each line before the next comes" {
	put_points
	coproc Q { vec-query "$C" -k 1 -i; }
	local pid=$Q_PID # bash forgets it when the coprocess ends
	for want in origin far east; do
		case $want in
		origin) q='[0,0]' ;; far) q='[20,0]' ;; east) q='[1.1,0]' ;;
		esac
		echo "$q" >&"${Q[1]}"
		read -r -t 10 got <&"${Q[0]}"
		[ "$got" = "$want" ]
	done
	eval "exec ${Q[1]}>&-"
	wait "$pid"
}

@test "rows of fvecs are questions" {
	put_points
	python3 -c "
import struct, sys
for v in ((0, 0), (11, 0)):
    sys.stdout.buffer.write(struct.pack('<iff', 2, *v))" >q.fvecs
	[ "$(vec-query "$C" -k 1 q.fvecs q.fvecs | cut -f 1,3 | tr '\t\n' ': ')" = \
		"0:origin 1:far 2:origin 3:far " ]
}
