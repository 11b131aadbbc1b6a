#!/usr/bin/env bats
# vec-get, vec-rm, vec-scan.

# shellcheck disable=SC2154 # stderr is set by run
load helper

@test "get prints records in the order asked, from arguments and stdin" {
	gen_jsonl 5 2 | vec-put "$C"
	[ "$(vec-get -i "$C" r3 r0 r4 | tr '\n' ' ')" = "r3 r0 r4 " ]
	[ "$(printf 'r3\r\nr0\n\nr4' | vec-get -i "$C" | tr '\n' ' ')" = "r3 r0 r4 " ]
	[ "$(printf 'r3\0r0' | vec-get -0 -i "$C" | tr '\0' ' ')" = "r3 r0 " ]
	[ "$(vec-get -w meta "$C" r1)" = '{"id":"r1","meta":{"n":1}}' ]
}

@test "get reports ids that are not there; none at all is status 1" {
	gen_jsonl 2 2 | vec-put "$C"
	run --separate-stderr vec-get -i "$C" r0 nope r1 'no/pe'
	[ "$status" -eq 0 ]
	[ "$output" = $'r0\nr1' ]
	[ "$stderr" = "vec-get: $C: there is no record 'nope'
vec-get: $C: there is no record 'no/pe'" ]
	run vec-get -q "$C" nope
	[ "$status" -eq 1 ]
	[ -z "$output" ]
	run bash -c ": | vec-get '$C'"
	[ "$status" -eq 1 ]
}

@test "what get and scan print can be put again, and is the same" {
	cat >in.jsonl <<-'END'
		{"id":"plain","vector":[1,2]}
		{"id":"sp ace/ü%","vector":[0.1,1e-7],"meta":{"a":[1,{"b":null}]},"text":"line\nbreak \"q\" ü"}
		{"id":"text only too","vector":[-3,4],"text":"x"}
	END
	vec-put "$C" in.jsonl
	vec-scan "$C" | vec-put "$C-2"
	[ "$(vec-scan "$C" | sort)" = "$(vec-scan "$C-2" | sort)" ]
	[ "$(vec-scan "$C" | jq -cS . | sort)" = "$(jq -cS . in.jsonl | sort)" ]
}

@test "removed records are gone from get, scan and query" {
	gen_jsonl 50 4 | vec-put "$C"
	vec-scan -w vector "$C" | sed -n 8p >q.jsonl
	id=$(jq -r .id q.jsonl)
	vec-rm "$C" "$id"
	run vec-get -q "$C" "$id"
	[ "$status" -eq 1 ]
	[ "$(vec-scan -i "$C" | wc -l)" -eq 49 ]
	vec-query "$C" -k 50 -i q.jsonl >found
	[ "$(wc -l <found)" -eq 49 ]
	[ "$(grep -cx "$id" found)" -eq 0 ]
}

@test "rm takes ids from stdin; status 1 when none was there" {
	gen_jsonl 5000 2 | vec-put "$C"
	run vec-rm "$C" nope
	[ "$status" -eq 1 ]
	[ "$output" = "vec-rm: $C: there is no record 'nope'" ]
	run vec-rm "$C" nope nor this
	[ "$status" -eq 1 ]
	[ "$output" = "vec-rm: $C: 3 of 3 ids were not there" ]
	run vec-rm -q "$C" nope
	[ "$status" -eq 1 ]
	[ -z "$output" ]
	run bash -c "{ vec-scan -i '$C'; echo nope; } | vec-rm -v '$C'"
	[ "$status" -eq 0 ]
	[[ $output == *"5000 removed, 1 were not there"* ]]
	[ -z "$(vec-scan -i "$C")" ]
	: | vec-rm "$C"
}

@test "a record that was removed can be put again" {
	echo '{"id":"a","vector":[1,2]}' | vec-put "$C"
	vec-rm "$C" a
	echo '{"id":"a","vector":[3,4]}' | vec-put "$C"
	[ "$(vec-get -w vector "$C" a)" = '{"id":"a","vector":[3,4]}' ]
	[ "$(echo '[3,4]' | vec-query "$C" -i)" = a ]
}

@test "scan shows one moment while records change" {
	gen_jsonl 20000 8 a >a.jsonl
	gen_jsonl 20000 8 b >b.jsonl
	vec-put "$C" a.jsonl
	# The scan is opened before the change and read slowly across it.
	exec 7< <(vec-scan -i "$C")
	read -r first <&7
	vec-put "$C" b.jsonl
	vec-scan -i "$C" | grep '^a' | vec-rm "$C"
	{ echo "$first"; cat <&7; } | sort >seen
	exec 7<&-
	[ "$(wc -l <seen)" -eq 20000 ]
	[ "$(grep -c '^b' seen)" -eq 0 ]
	[ "$(vec-scan -i "$C" | grep -c '^b')" -eq 20000 ]
}

@test "scan of nothing is empty and fine, of no collection refused" {
	vec-create "$C"
	run vec-scan "$C"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	run vec-scan "$C-none"
	[ "$status" -eq 5 ]
}
