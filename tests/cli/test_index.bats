#!/usr/bin/env bats
# vec-index, vec-recall, vec-bench.

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
	[[ ${lines[1]} == k$'\t'5 ]]
	run vec-recall --at-least 1.1 "$C"
	[ "$status" -eq 1 ]
}

@test "bench measures and leaves nothing behind" {
	python3 - <<-'END'
		import random, struct
		random.seed(5)
		def vec(): return [random.randrange(256) for _ in range(16)]
		base = [vec() for _ in range(1500)]
		query = [vec() for _ in range(30)]
		for name, rows in (("base", base), ("query", query)):
		    with open(name + ".bvecs", "wb") as f:
		        for v in rows:
		            f.write(struct.pack("<i16B", 16, *v))
		with open("gt.ivecs", "wb") as f:
		    for q in query:
		        order = sorted(range(len(base)),
		                       key=lambda i: sum((a - b) ** 2 for a, b in zip(base[i], q)))
		        f.write(struct.pack("<i10i", 10, *order[:10]))
	END
	before=$(vec-ls)
	run --separate-stderr vec-bench -j --base base.bvecs --query query.bvecs --truth gt.ivecs \
		--ef 20,200 --seconds 0.2 --threads 2
	[ "$status" -eq 0 ]
	[ "${#lines[@]}" -eq 3 ]
	[ "$(jq .records <<<"${lines[0]}")" -eq 1500 ]
	[ "$(jq '.recall > 0.97 and .qps > 0 and .p50_us > 0 and .p99_us >= .p50_us' \
		<<<"${lines[2]}")" = true ]
	[ "$(vec-ls)" = "$before" ]
	# Without truths it asks exactly.
	run vec-bench --base base.bvecs --query query.bvecs --seconds 0.1 --ef 200
	[ "$status" -eq 0 ]
	[[ $output == *"recall@10"* ]]
	run vec-bench --base base.bvecs --query nope.bvecs
	[ "$status" -eq 4 ] || [ "$status" -eq 5 ]
	[ "$(vec-ls)" = "$before" ]
}
