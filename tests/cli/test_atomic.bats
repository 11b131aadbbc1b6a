#!/usr/bin/env bats
# vec-put --atomic: all of the input, or nothing.

load helper

# Texts make the records long: many batches of few records.
gen_long() { # N PREFIX VERSION
	awk -v n="$1" -v p="$2" -v v="${3:-1}" 'BEGIN {
		t = "y"
		for (i = 0; i < 9; i++)
			t = t t
		for (i = 0; i < n; i++)
			printf "{\"id\":\"%s%d\",\"vector\":[%d.5,%d,1],\"meta\":{\"v\":%d},\"text\":\"%s\"}\n", p, i, i, v, v, t
	}'
}

count() { vec-stat -j "${1:-$C}" | jq .count; }

make_coll() {
	vec-create "$C" --dim 3 --metric l2 --spread "$VECFS_TEST_SHARDS"
}

# Until a line of vec-stat has a value; what is dropped may be settled a moment later.
until_stat() { # KEY OP VALUE
	local i
	for i in $(seq 100); do
		[ "$(vec-stat -j "$C" | jq ".$1 $2 $3")" = true ] && return 0
		sleep 0.1
	done
	vec-stat "$C" >&2
	return 1
}

@test "everything is in when it returns, and the receipt tells of one transaction" {
	make_coll
	gen_long 3000 a >a.jsonl
	gen_long 2000 b >b.jsonl
	gen_long 100 a 2 >again.jsonl
	run --separate-stderr vec-put --atomic --receipt "$C" a.jsonl b.jsonl again.jsonl
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 1 ]
	[ "$(jq -c '[.files,.accepted,.inserted+.updated+.duplicates,.rejected]' <<<"$output")" = \
		'[["a.jsonl","b.jsonl","again.jsonl"],5100,5100,0]' ]
	[ "$(jq '.index > 0' <<<"$output")" = true ]
	[[ $(jq -r .transaction <<<"$output") =~ ^[0-9a-f]{16}$ ]]
	[ "$(count)" -eq 5000 ]
	# The last of an id wins, across files and batches.
	[ "$(vec-get "$C" a7 | jq .meta.v)" -eq 2 ]
	[ "$(vec-get "$C" a100 | jq .meta.v)" -eq 1 ]
	[ "$(echo '[1234.5,1,1]' | vec-query "$C" -i -k 1)" = a1234 ] || [ "$(echo '[1234.5,1,1]' | vec-query "$C" -i -k 1)" = b1234 ]
	# The checksum is that of the files one after the other.
	[ "$(jq -r .xxh3 <<<"$output")" = "$(cat a.jsonl b.jsonl again.jsonl | vec-put --atomic --receipt "$C" | jq -r .xxh3)" ]
}

@test "--batch and --window say how large the parts are, and nothing of what is seen" {
	make_coll
	gen_long 1000 a | vec-put --atomic --batch 7 --window 16 "$C"
	[ "$(count)" -eq 1000 ]
	gen_long 1000 a 2 | vec-put --atomic --batch 1000000 --window 1 "$C"
	[ "$(count)" -eq 1000 ]
	[ "$(vec-get "$C" a999 | jq .meta.v)" -eq 2 ]
}

@test "an empty input is a transaction of nothing" {
	make_coll
	[ "$(vec-put --atomic --receipt "$C" </dev/null | jq .accepted)" -eq 0 ]
	[ "$(count)" -eq 0 ]
}

@test "a bad record refuses all files, with file, line and reason" {
	make_coll
	gen_long 3000 a >a.jsonl
	{ gen_long 2500 b; echo '{broken'; gen_long 5 c; } >unparsed.jsonl
	{ gen_long 2500 b; echo '{"id":"x","vector":[1]}'; gen_long 5 c; } >unfit.jsonl
	for f in unparsed unfit; do
		run --separate-stderr vec-put --atomic --receipt --rejects bad.$f "$C" a.jsonl $f.jsonl
		[ "$status" -eq 4 ]
		[ -z "$output" ]
		[[ $stderr == *"vec-put: $f.jsonl:2501: "* ]]
		[[ $stderr == *"vec-put: $C: nothing was committed"* ]]
		[ "$(wc -l <bad.$f)" -eq 1 ]
		[ "$(count)" -eq 0 ]
	done
	grep -q '"x"' bad.unfit
	# In the last batch, which is on its way when the input ends.
	{ gen_long 10 b; echo '{"id":"x","vector":[1]}'; } >late.jsonl
	run vec-put --atomic "$C" late.jsonl
	[ "$status" -eq 4 ]
	[[ $output == *"late.jsonl:11: "*"dimension 3"* ]]
	# Half a record, half a row, and a file that is not there.
	gen_long 100 d | head -c 20000 >torn.jsonl
	run vec-put --atomic --on-error skip "$C" a.jsonl torn.jsonl
	[ "$status" -ne 0 ]
	run vec-put --atomic --on-error skip "$C" a.jsonl none.jsonl
	[ "$status" -eq 4 ]
	[[ $output == *"none.jsonl: No such file"* ]]
	[ "$(count)" -eq 0 ] || [ "$(count)" -eq 3038 ]
}

@test "--on-error skip leaves the bad ones out, and the rest is one transaction" {
	make_coll
	{ gen_long 2000 a; echo nonsense; gen_long 2000 b; echo '{"id":"x","vector":[1,2]}'; } >in.jsonl
	run --separate-stderr vec-put --atomic --on-error skip --receipt --rejects bad "$C" in.jsonl
	[ "$status" -eq 3 ]
	[ "$(jq -c '[.accepted,.inserted,.rejected]' <<<"$output")" = '[4000,4000,2]' ]
	[[ $stderr == *"in.jsonl:2001: "* ]]
	[[ $stderr == *"in.jsonl:4002: "* ]]
	[ "$(wc -l <bad)" -eq 2 ]
	[ "$(count)" -eq 4000 ]
}

@test "--atomic and --insert exclude each other" {
	make_coll
	run vec-put --atomic --insert "$C" </dev/null
	[ "$status" -eq 2 ]
	[[ $output == *"--insert"*"--atomic"* ]]
}

@test "what is over inbox.max is refused with the limit, and its space is free again" {
	local own=$BATS_TEST_TMPDIR/own
	start_daemon "$own"
	export VECFS_SOCKET=$own.sock
	make_coll
	gen_long 10000 a >a.jsonl
	# There is no tool that sets an option: the limit comes through a mount of the same data.
	stop_daemon "$own"
	mkdir mnt
	vecfsd -d --supervise=no --shards "$VECFS_TEST_SHARDS" --socket "$own.sock" --pid-file "$own.pid" --log-file "$own.log" "$own" mnt || skip_or_fail
	echo 2M >"mnt/$C/config/inbox.max"
	run --separate-stderr vec-put --atomic --receipt "$C" a.jsonl
	[ "$status" -eq 5 ]
	[ -z "$output" ]
	[[ $stderr == *"a.jsonl: "*"2097152 bytes (inbox.max)"* ]]
	[[ $stderr == *"nothing was committed"* ]]
	[ "$(count)" -eq 0 ]
	grep -q "EFBIG" mnt/.vecfs/error_log
	head -n 1000 a.jsonl | vec-put --atomic "$C"
	[ "$(count)" -eq 1000 ]
	vec-put "$C" a.jsonl
	[ "$(count)" -eq 10000 ]
}

skip_or_fail() {
	[ -z "${CI:-}" ] || return 1
	skip "no mount here"
}

@test "a vec-put that is killed midway leaves nothing, and its space comes back" {
	make_coll
	gen_long 40000 a >a.jsonl
	local i most=0 bytes
	for i in 1 2 3 4 5 6; do
		# It has sent some 15 MB of 25 and waits for more.
		{ head -n 25000 a.jsonl; sleep 100; } >fifo.$i &
		:
	done 2>/dev/null
	kill %1 %2 %3 %4 %5 %6 2>/dev/null || true
	for i in 1 2 3 4 5 6; do
		mkfifo pipe
		vec-put --atomic "$C" <pipe &
		local put=$!
		exec 7>pipe
		head -n 25000 a.jsonl >&7
		kill -9 $put
		exec 7>&-
		wait $put 2>/dev/null || true
		rm pipe
		until_stat hidden_parts == 0
		[ "$(count)" -eq 0 ]
		bytes=$(vec-stat -j "$C" | jq .disk_bytes)
		[ "$i" -gt 2 ] || most=$bytes
	done
	# Six times the same does not take more than twice.
	[ "$bytes" -le $((most + most / 2)) ]
	vec-put --atomic "$C" a.jsonl
	[ "$(count)" -eq 40000 ]
}
