#!/usr/bin/env bats
# vec-put.

load helper

# A little-endian fvecs file of vectors (i, i+1, i+2) for i in 1..$1.
gen_fvecs() {
	python3 -c "
import struct, sys
for i in range(1, $1 + 1):
    sys.stdout.buffer.write(struct.pack('<ifff', 3, i, i + 1, i + 2))"
}

@test "records go in, whole, and are found when put returns" {
	echo '{"id":"a","vector":[0.1,-2,3e2],"meta":{"k":"v"},"text":"hello"}' | vec-put "$C"
	[ "$(vec-get "$C" a)" = '{"id":"a","vector":[0.1,-2,300],"meta":{"k":"v"},"text":"hello"}' ]
	[ "$(echo '[0.1,-2,300]' | vec-query "$C" -i -k 1)" = a ]
}

@test "put makes the collection unless told not to" {
	run bash -c "echo '{\"id\":\"a\",\"vector\":[1]}' | vec-put --no-create '$C'"
	[ "$status" -eq 5 ]
	[[ $output == *"no"*"$C"* ]]
	run bash -c "echo '{\"id\":\"a\",\"vector\":[1]}' | vec-put -v --metric ip '$C'"
	[ "$status" -eq 0 ]
	[[ $output == *"made $C"* ]]
	[ "$(vec-ls -j "$C" | jq -r .metric)" = ip ]
}

@test "bad records are reported with file and line, the others are in" {
	cat >in.jsonl <<-'END'
		{"id":"a","vector":[1,2,3]}
		{"id":"b","vector":[1,2]}
		{broken
		{"id":"c","vector":[1,2,NaN]}
		{"id":"d","vector":[0,0,0]}
		{"id":"","vector":[1,2,3]}
		{"vector":[1,2,3]}
		{"id":"e","vector":[1,2,3],"colour":"red"}

		{"id":"f","vector":[3,2,1]}
	END
	run vec-put "$C" in.jsonl
	[ "$status" -eq 3 ]
	for line in 2 3 4 5 6 7 8; do
		[[ $output == *"vec-put: in.jsonl:$line: "* ]]
	done
	[ "${#lines[@]}" -eq 7 ]
	[[ $output == *"dimension 3"* ]]
	[[ $output == *"colour"* ]]
	[ "$(vec-scan -i "$C" | sort | tr '\n' ' ')" = "a f " ]
	run vec-put -q "$C" in.jsonl
	[ "$status" -eq 3 ]
	[ -z "$output" ]
}

@test "over-long ids, control characters and bad UTF-8 are refused" {
	long=$(printf 'x%.0s' {1..241})
	printf '{"id":"%s","vector":[1]}\n{"id":"a\\u0001","vector":[1]}\n{"id":"\xff","vector":[1]}\n' \
		"$long" >in.jsonl
	run vec-put "$C" in.jsonl
	[ "$status" -eq 3 ]
	[ "${#lines[@]}" -eq 3 ]
	[ -z "$(vec-scan -i "$C")" ]
	exact=$(printf 'x%.0s' {1..240})
	echo "{\"id\":\"$exact\",\"vector\":[1]}" | vec-put "$C"
	[ "$(vec-scan -i "$C")" = "$exact" ]
}

@test "--on-error abort stops at the first bad record; what came before is in" {
	printf '{"id":"a","vector":[1,2]}\nnonsense\n{"id":"b","vector":[1,2]}\n' >in.jsonl
	run vec-put --on-error abort "$C" in.jsonl
	[ "$status" -eq 4 ]
	[[ $output == *"in.jsonl:2: "* ]]
	[ "$(vec-scan -i "$C")" = a ]
}

@test "--rejects keeps what was refused, ready to be put again" {
	printf '{"id":"a","vector":[1,2]}\n{"id":"b","vector":[1,2,3]}\n{"id":"c","vector":[0,0]}\n' |
		vec-put -q "$C" --rejects bad.jsonl || [ $? -eq 3 ]
	[ "$(wc -l <bad.jsonl)" -eq 2 ]
	grep -q '"b"' bad.jsonl
	[ "$(jq -c 'select(.id=="c").vector' bad.jsonl)" = "[0,0]" ]
	vec-create "$C-2" --metric l2
	jq -c 'select(.id=="c")' bad.jsonl | vec-put "$C-2"
}

@test "the receipt has the counts, the checksum and the index" {
	gen_jsonl 100 4 >in.jsonl
	printf '{"id":"r0","vector":[1,2,3,4]}\nnonsense\n' >>in.jsonl
	run --separate-stderr vec-put --receipt "$C" in.jsonl
	[ "$status" -eq 3 ]
	[ "${#lines[@]}" -eq 1 ]
	[ "$(jq -r '[.file,.accepted,.inserted,.updated,.rejected] | @csv' <<<"$output")" = \
		'"in.jsonl",101,100,0,1' ]
	[ "$(jq .duplicates <<<"$output")" -eq 1 ]
	[ "$(jq '.index > 0' <<<"$output")" = true ]
	[[ $(jq -r .xxh3 <<<"$output") =~ ^[0-9a-f]{16}$ ]]
	# The same again: all are updates, the checksum is the same.
	again=$(vec-put -q --receipt "$C" in.jsonl) || [ $? -eq 3 ]
	[ "$(jq -c '[.inserted,.updated]' <<<"$again")" = "[0,100]" ]
	[ "$(jq .xxh3 <<<"$again")" = "$(jq .xxh3 <<<"$output")" ]
	# One line per file.
	gen_jsonl 5 4 x >two.jsonl
	[ "$(vec-put -q --receipt "$C" two.jsonl two.jsonl | jq -s 'map(.accepted)' -c)" = "[5,5]" ]
}

@test "a duplicate within a batch: the last one wins" {
	printf '{"id":"a","vector":[1,2]}\n{"id":"a","vector":[3,4]}\n{"id":"a","vector":[5,6]}\n' |
		vec-put "$C"
	[ "$(vec-get -w vector "$C" a)" = '{"id":"a","vector":[5,6]}' ]
	[ "$(vec-stat -j "$C" | jq .count)" -eq 1 ]
}

@test "--insert refuses ids that exist and keeps the old record" {
	echo '{"id":"a","vector":[1,2]}' | vec-put "$C"
	run bash -c "printf '{\"id\":\"a\",\"vector\":[9,9]}\n{\"id\":\"b\",\"vector\":[1,1]}\n' |
		vec-put --insert '$C'"
	[ "$status" -eq 3 ]
	[[ $output == *"1 records were not inserted: their ids exist"* ]]
	[ "$(vec-get -w vector "$C" a)" = '{"id":"a","vector":[1,2]}' ]
	[ "$(vec-scan -i "$C" | sort | tr '\n' ' ')" = "a b " ]
}

@test "rows get numbers as ids, counted on across files" {
	gen_fvecs 3 >a.fvecs
	gen_fvecs 2 >b.fvecs
	vec-put "$C" a.fvecs b.fvecs
	[ "$(vec-scan -i "$C" | sort -n | tr '\n' ' ')" = "0 1 2 3 4 " ]
	[ "$(vec-get -w vector "$C" 1)" = '{"id":"1","vector":[2,3,4]}' ]
	[ "$(vec-get -w vector "$C" 4)" = '{"id":"4","vector":[2,3,4]}' ]
}

@test "--id-prefix and FILE.ids name rows" {
	gen_fvecs 2 >a.fvecs
	vec-put "$C" --id-prefix img- a.fvecs
	[ "$(vec-scan -i "$C" | sort | tr '\n' ' ')" = "img-0 img-1 " ]
	printf 'first\nsecond\n' >a.fvecs.ids
	vec-put "$C-2" a.fvecs
	[ "$(vec-scan -i "$C-2" | sort | tr '\n' ' ')" = "first second " ]
	echo only >a.fvecs.ids
	run vec-put "$C-3" a.fvecs
	[ "$status" -eq 4 ]
	[[ $output == *"a.fvecs.ids"* ]]
}

@test "formats by suffix, by contents and by -F" {
	gen_fvecs 40 >a.fvecs
	vec-put "$C" <a.fvecs
	[ "$(vec-scan -i "$C" | wc -l)" -eq 40 ]
	cp a.fvecs a.unknown
	vec-put "$C-2" -F fvecs a.unknown
	[ "$(vec-scan -i "$C-2" | wc -l)" -eq 40 ]
	printf 'x\t1 2 3\ty\ny\t4,5,6\n' >a.tsv
	run vec-put -q "$C-3" a.tsv
	[ "$status" -eq 3 ]
	[ "$(vec-scan -w vector "$C-3")" = '{"id":"y","vector":[4,5,6]}' ]
	printf '\001\002' >a.bin
	run vec-put "$C-4" a.bin
	[ "$status" -eq 4 ]
	[[ $output == *"-F"* ]]
}

@test "a cut or mixed row file is bad data; whole rows before it are in" {
	gen_fvecs 3 | head -c 40 >a.fvecs
	run vec-put "$C" a.fvecs
	[ "$status" -eq 4 ]
	[[ $output == *"a.fvecs"* ]]
	[ "$(vec-scan -i "$C" | wc -l)" -eq 2 ]
}

@test "rows of another dimension than the collection's are refused" {
	vec-create --dim 4 "$C"
	gen_fvecs 3 >a.fvecs
	run vec-put "$C" a.fvecs
	[ "$status" -eq 3 ] || [ "$status" -eq 4 ]
	[[ $output == *"dimension"* ]]
	[ -z "$(vec-scan -i "$C")" ]
}

@test "a missing file is reported; the other files are put" {
	echo '{"id":"a","vector":[1]}' >a.jsonl
	run vec-put "$C" nope.jsonl a.jsonl
	[ "$status" -eq 4 ]
	[[ $output == *"nope.jsonl: No such file"* ]]
	[ "$(vec-scan -i "$C")" = a ]
}

@test "empty input is fine, half a record is not" {
	: | vec-put "$C"
	run bash -c "printf '{\"id\":\"a\",\"vec' | vec-put '$C'"
	[ "$status" -eq 3 ] || [ "$status" -eq 4 ]
	[ -z "$(vec-scan -i "$C")" ]
	printf '{"id":"a","vector":[1]}' | vec-put "$C"
	[ "$(vec-scan -i "$C")" = a ]
}

@test "many batches under way all arrive, with every batch size and window" {
	gen_jsonl 2000 16 >in.jsonl
	for o in "-b 1 --window 16" "-b 7 --window 3" "-b 100000 --window 1"; do
		# shellcheck disable=SC2086
		vec-put $o "$C" in.jsonl
		[ "$(vec-stat -j "$C" | jq .count)" -eq 2000 ]
		vec-drop -f "$C"
	done
}

@test "what a record lacks is reported to the daemon's error log as well" {
	before=$(vec-stat -j | jq .errors_logged)
	printf 'nonsense\n{"id":"z","vector":[0,0]}\n' | vec-put -q "$C" || [ $? -eq 3 ]
	[ "$(vec-stat -j | jq .errors_logged)" -eq $((before + 2)) ]
}
