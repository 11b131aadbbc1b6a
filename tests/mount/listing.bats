#!/usr/bin/env bats
# A million records: listings cost what is read of them.
load helper

# Under ASan freed memory stays in a quarantine (256 MB) that looks like growth.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1

rss() {
	awk '$1 == "rss_anon_bytes" {print $2}' "$MNT/.vecfs/stats"
}

@test "a million ids are listed page by page, not built in memory" {
	python3 - >"$BASE/big.fbin" <<-'PY'
		import array, random, struct, sys
		random.seed(1)
		n = 1000000
		sys.stdout.buffer.write(struct.pack("<II", n, 2))
		sys.stdout.buffer.write(array.array("f", (random.random() - 0.5 for _ in range(2 * n))).tobytes())
	PY
	echo '{"index":"flat"}' >"$D/schema.json" # no graph: this is about listing
	cp "$BASE/big.fbin" "$D/inbox/"
	# The index must not grow while memory is compared.
	for _ in $(seq 1 600); do
		[ "$(cat "$D/index/state")" = ready ] && break
		sleep 0.5
	done
	local before after
	before=$(rss)
	same "$(ls -f "$D/vec" | grep -c '\.json$')" 1000000
	same "$(wc -l <"$D/ids")" 1000000
	after=$(rss)
	[ $((after - before)) -lt $((24 << 20)) ] || {
		echo "listing took $((after - before)) bytes" >&2
		false
	}
	# The first page costs a page.
	run -0 timeout 5 python3 - "$D/vec" <<-'PY'
		import os, sys
		it = os.scandir(sys.argv[1])
		print(next(it).name)
		it.close()
	PY
	same "$(jq -r .id "$D/vec/777777.json")" 777777
}

@test "a listing goes on rightly while records come and go" {
	seq 1 5000 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	run -0 python3 - "$D" <<-'PY'
		import os, sys
		d = sys.argv[1]
		seen, i = [], 0
		with os.scandir(d + "/vec") as it:
		    for e in it:
		        seen.append(e.name)
		        i += 1
		        if i % 100 == 0:
		            os.unlink(f"{d}/vec/{e.name}")
		            open(f"{d}/vec/new{i}.json", "w").write("[1,2,%d]" % i)
		# Every record that was there all the time, once; new ones at most once.
		assert len(seen) == len(set(seen))
		assert {f"r{k}.json" for k in range(1, 5001)} <= set(seen)
	PY
}
