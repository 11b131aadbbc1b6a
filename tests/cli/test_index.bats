#!/usr/bin/env bats
# vec-index, vec-recall.

load helper

@test "index wait returns when the tail is empty" {
	gen_jsonl 5000 16 | vec-put "$C"
	vec-index wait "$C"
	[ "$(vec-index -j status "$C" | jq -c '[.records,.tail,.state]')" = '[5000,0,"ready"]' ]
	vec-index status "$C" | grep -qx 'tail 0'
	vec-index check "$C"
	vec-index save "$C"
	run vec-index wait "$C-none"
	[ "$status" -eq 5 ]
}

@test "index compact gives back what deleted records hold" {
	gen_jsonl 4000 64 | vec-put "$C"
	vec-index wait "$C"
	before=$(vec-index -j status "$C")
	vec-query --exact -i "$C" <<<"$(gen_jsonl 1 64 | jq -c .vector)" > "$BATS_TEST_TMPDIR/before"
	vec-scan -i "$C" | head -n 700 | vec-rm "$C"
	[ "$(vec-index -j status "$C" | jq .dead)" -eq 700 ]
	vec-index compact "$C"
	after=$(vec-index -j status "$C")
	[ "$(jq -c '[.records,.slots,.dead,.tail,.state,.compactions]' <<<"$after")" = \
		'[3300,3300,0,0,"ready",1]' ]
	[ "$(jq .disk_bytes <<<"$after")" -lt "$(jq .disk_bytes <<<"$before")" ]
	[ "$(jq .memory_bytes <<<"$after")" -lt "$(jq .memory_bytes <<<"$before")" ]
	vec-index check "$C"
	[ "$(vec-scan -i "$C" | wc -l)" -eq 3300 ]
	# Half of them: it compacts by itself, and wait waits for it.
	vec-scan -i "$C" | head -n 1700 | vec-rm "$C"
	vec-index wait "$C"
	[ "$(vec-index -j status "$C" | jq -c '[.slots,.dead,.compactions]')" = '[1600,0,2]' ]
	# With nothing left nothing is held.
	vec-scan -i "$C" | vec-rm "$C"
	vec-index wait "$C"
	[ "$(vec-index -j status "$C" | jq -c '[.slots,.dead]')" = '[0,0]' ]
	run vec-index compact "$C-none"
	[ "$status" -eq 5 ]
}

@test "index wait gives up after its time" {
	gen_jsonl 15000 64 | vec-put "$C" &
	put=$!
	for _ in $(seq 1 100); do
		tail=$(vec-index -j status "$C" 2>/dev/null | jq .tail)
		[ "${tail:-0}" -gt 3000 ] && break
		sleep 0.02
	done
	run vec-index wait --timeout 0.001 "$C"
	wait "$put"
	# On a quick machine all may be done; otherwise it says how many are not.
	[ "$status" -eq 0 ] || { [ "$status" -eq 75 ] && [[ $output == *"not indexed yet"* ]]; }
	vec-index wait "$C"
}

@test "recall is measured, and --at-least judges it" {
	gen_jsonl 3000 16 | vec-put "$C"
	vec-index wait "$C"
	run vec-recall -j -n 50 "$C"
	[ "$status" -eq 0 ]
	[ "$(jq '.recall >= 0.9 and .recall <= 1 and .samples == 50 and .k == 10' <<<"$output")" = true ]
	run vec-recall -t "$C" -n 20 -k 5
	[[ ${lines[0]} == recall$'\t'* ]]
	[[ ${lines[1]} == promised$'\t'0.95 ]]
	[[ ${lines[3]} == k$'\t'5 ]]
	run vec-recall --at-least 1.1 "$C"
	[ "$status" -eq 1 ]
}

@test "a recall is promised by the collection or the question, and bad ones say why" {
	vec-create --recall 0.99 "$C"
	gen_jsonl 3000 16 | vec-put "$C"
	vec-index wait "$C"
	vec-stat "$C" | grep -qx 'recall 0.99'
	vec-stat "$C" | grep -qE '^recall_measured (0.99|1.00)'
	vec-stat "$C" | grep -qE '^recall_codes 0'
	[ "$(vec-recall -j -n 50 "$C" | jq '.promised == 0.99 and .recall >= 0.95')" = true ]
	[ "$(vec-recall -j -n 50 -r exact "$C" | jq '.promised == 1 and .recall == 1')" = true ]
	q=$(gen_jsonl 1 16 | jq -c '.vector')
	[ "$(vec-query --recall exact -i "$C" <<<"$q")" = "$(vec-query --exact -i "$C" <<<"$q")" ]
	[ "$(vec-query --recall 0.8 -i "$C" <<<"$q" | wc -l)" -eq 10 ]
	[ "$(vec-query -i "$C" <<<"{\"vector\":$q,\"recall\":\"exact\"}" | wc -l)" -eq 10 ]
	for bad in 0 1 1.5 x; do
		run vec-query --recall $bad "$C" <<<"$q"
		[ "$status" -eq 2 ]
		[[ $output == *"recall: "* ]]
		run vec-query "$C" <<<"{\"vector\":$q,\"recall\":\"$bad\"}"
		[[ $output == *"recall: "* ]]
		run vec-create --recall $bad "$C-2"
		[ "$status" -eq 2 ]
	done
	run vec-query --recall 0.9 --ef 20 "$C" <<<"$q"
	[ "$status" -eq 2 ]
	[[ $output == *"how hard"* ]]
}
