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

# The file that says that a slice has parts, or shards to be told, is gone from all slices.
settled() { # DATA
	for _ in $(seq 100); do
		[ -n "$(find "$1" -name txn)" ] || return 0
		sleep 0.1
	done
	find "$1" -name txn >&2
	return 1
}

# half_put DATA: a vec-put that has sent some megabytes and waits for more; its pid is in $PUT, its input is 7.
half_put() {
	rm -f pipe
	mkfifo pipe
	vec-put --atomic "$C" <pipe 2>put.err 3>&- &
	PUT=$!
	exec 7>pipe
	head -n 20000 a.jsonl >&7
	for _ in $(seq 100); do
		[ -z "$(find "$1" -name txn)" ] || return 0
		sleep 0.05
	done
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
	[ "$(echo '[2345.5,1,1]' | vec-query "$C" -i -k 1)" = a2345 ]
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
	[ "$(count)" -eq 0 ]
	settled "$DATA"
}

@test "a file that is cut, or cannot be read, refuses all of them, whatever --on-error says" {
	make_coll
	gen_long 2000 a >a.jsonl
	python3 -c "
import struct, sys
for i in range(50):
    sys.stdout.buffer.write(struct.pack('<ifff', 3, i, i + 1, i + 2))" | head -c 790 >torn.fvecs
	run vec-put --atomic --on-error skip "$C" a.jsonl torn.fvecs
	[ "$status" -eq 4 ]
	[[ $output == *"torn.fvecs: "*"$C: nothing was committed"* ]]
	run vec-put --atomic --on-error skip "$C" a.jsonl none.jsonl
	[ "$status" -eq 4 ]
	[[ $output == *"none.jsonl: No such file"*"$C: nothing was committed"* ]]
	[ "$(count)" -eq 0 ]
	settled "$DATA"
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

@test "a vec-put that is killed midway leaves nothing, and its space comes back" {
	make_coll
	gen_long 25000 a >a.jsonl
	local i bytes staged
	for i in 1 2 3 4 5 6; do
		half_put "$DATA"
		[ "$(count)" -eq 0 ]
		kill -9 "$PUT"
		exec 7>&-
		wait "$PUT" || true
		settled "$DATA"
		[ "$(count)" -eq 0 ]
	done
	# What was dropped is room for others, and a compaction gives it back.  Each slice may keep 4 MiB of
	# SQLite's log for the next writes; more of it is copied back at some mark or other.
	stop_daemon "$DATA"
	start_daemon "$DATA"
	staged=$(head -n 20000 a.jsonl | wc -c)
	bytes=$(vec-stat -j "$C" | jq .bytes)
	vec-index compact "$C"
	vec-index wait "$C"
	echo "bytes sent each time: $staged, after six: $bytes, compacted: $(vec-stat -j "$C" | jq .bytes)"
	[ "$bytes" -lt $((staged * 2 + VECFS_TEST_SHARDS * (5 << 20))) ]
	[ "$(vec-stat -j "$C" | jq .bytes)" -lt $((staged / 10)) ]
	vec-put --atomic "$C" a.jsonl
	[ "$(count)" -eq 25000 ]
}

@test "a collection that is dropped meanwhile refuses the rest" {
	make_coll
	gen_long 25000 a >a.jsonl
	half_put "$DATA"
	vec-drop -f "$C"
	tail -n 5000 a.jsonl >&7 || true
	exec 7>&-
	local rc=0
	wait "$PUT" || rc=$?
	[ "$rc" -eq 5 ]
	grep -q "nothing was committed" put.err
}

@test "a daemon that is killed while vec-put runs has all or nothing after its start" {
	local own=$BATS_TEST_TMPDIR/own all=0 none=0 acked=0 unknown=0 i n rc delay
	gen_long 8000 r >a.jsonl
	start_daemon "$own"
	export VECFS_SOCKET=$own.sock
	make_coll
	echo "RANDOM=${SEED:=$RANDOM}"
	RANDOM=$SEED
	for i in 1 2 3 4 5 6 7 8; do
		sed "s/\"id\":\"r/&$i-/" a.jsonl >k.jsonl
		vec-put --atomic "$C" k.jsonl 2>err 3>&- &
		delay=$((RANDOM % 250))
		sleep "0.$(printf %03d "$delay")"
		stop_daemon "$own" KILL
		rc=0
		wait $! || rc=$?
		start_daemon "$own"
		n=$(count)
		[ $((n % 8000)) -eq 0 ]
		if [ "$n" -gt $((all * 8000)) ]; then all=$((all + 1)); else none=$((none + 1)); fi
		[ "$n" -eq $((all * 8000)) ]
		# What it said is so.
		if [ "$rc" -eq 0 ]; then
			acked=$((acked + 1))
			[ "$(vec-get -w meta "$C" "r$i-7999" | wc -l)" -eq 1 ]
		else
			[ "$rc" -eq 75 ] || [ "$rc" -eq 5 ]
			if grep -q "outcome is not known" err; then
				unknown=$((unknown + 1))
			else
				grep -q "nothing was committed" err || grep -q "no daemon answers" err
				[ "$(vec-get "$C" "r$i-7999" | wc -l)" -eq 0 ]
			fi
		fi
		settled "$own"
	done
	echo "all $all, none $none, acknowledged $acked, unknown $unknown"
}

@test "who reads meanwhile never sees a part of a shard's share" {
	make_coll
	gen_long 400 r 0 | vec-put --atomic "$C"
	python3 - "$C" "$VECFS_TEST_SHARDS" <<-'PY'
		import json, subprocess, sys, threading
		coll, shards = sys.argv[1], int(sys.argv[2])
		VERSIONS, N = 40, 400
		text = "y" * 3000
		done = False
		def write():
		    global done
		    for v in range(1, VERSIONS + 1):
		        data = "".join('{"id":"r%d","vector":[%d.5,%d,1],"meta":{"v":%d},"text":"%s"}\n' % (i, i, v, v, text) for i in range(N))
		        subprocess.run(["vec-put", "--atomic", "--batch", "30", coll], input=data.encode(), check=True)
		    done = True
		t = threading.Thread(target=write)
		t.start()
		seen, scans = {"r%d" % i: [] for i in range(N)}, 0
		while t.is_alive():
		    out = subprocess.run(["vec-scan", "-w", "meta", coll], capture_output=True, check=True).stdout
		    recs = [json.loads(line) for line in out.splitlines()]
		    assert len(recs) == N and len({r["id"] for r in recs}) == N, len(recs)
		    scans += 1
		    for r in recs:
		        seen[r["id"]].append(r["meta"]["v"])
		t.join()
		assert done
		# The records of a shard have gone through the same versions in every scan.
		ways = {tuple(v) for v in seen.values()}
		versions = {v for way in ways for v in way}
		print("%d scans, %d versions seen, %d ways for %d shards" % (scans, len(versions), len(ways), shards))
		assert len(ways) <= shards, "%d ways" % len(ways)
		assert scans >= 5 and len(versions) >= 3
	PY
}
