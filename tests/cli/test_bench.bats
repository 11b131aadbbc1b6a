#!/usr/bin/env bats
# vec-bench: made sets, exact neighbours, a small run of everything.
load helper

# sets N DIM: base.fvecs and query.fvecs of random vectors, not centred, so that metrics differ.
sets() {
	python3 - "$1" "$2" <<-'END'
		import random, struct, sys
		n, dim = int(sys.argv[1]), int(sys.argv[2])
		random.seed(5)
		for name, rows in (("base", n), ("query", 12)):
		    with open(name + ".fvecs", "wb") as f:
		        for _ in range(rows):
		            s = random.uniform(0.5, 2)
		            f.write(struct.pack("<i%df" % dim, dim,
		                    *(s * random.gauss(0.3, 1) for _ in range(dim))))
	END
}

# Whether FILE has the 10 nearest of query.fvecs in base.fvecs under METRIC: brute FILE METRIC
brute() {
	python3 - "$1" "$2" <<-'END'
		import struct, sys
		def vecs(name, kind, size):
		    data, at, out = open(name, "rb").read(), 0, []
		    while at < len(data):
		        (n,) = struct.unpack_from("<i", data, at)
		        out.append(struct.unpack_from("<%d%s" % (n, kind), data, at + 4))
		        at += 4 + n * size
		    return out
		def dot(a, b): return sum(x * y for x, y in zip(a, b))
		def far(q, v):
		    if sys.argv[2] == "l2": return sum((x - y) ** 2 for x, y in zip(q, v))
		    if sys.argv[2] == "ip": return -dot(q, v)
		    return 1 - dot(q, v) / (dot(q, q) * dot(v, v)) ** 0.5
		base, query = vecs("base.fvecs", "f", 4), vecs("query.fvecs", "f", 4)
		truth = vecs(sys.argv[1], "i", 4)
		assert len(truth) == len(query)
		for q, t in zip(query, truth):
		    want = sorted(range(len(base)), key=lambda i: far(q, base[i]))
		    assert list(t[:10]) == want[:10], (t[:10], want[:10])
	END
}

bench() {
	mkdir -p tmp
	TMPDIR=$PWD/tmp vec-bench -q "$@"
}

@test "a made set depends on kind, dimension and seed alone, and a larger one starts with the smaller" {
	for kind in sift embed mnist; do
		suffix=fbin
		[ $kind = embed ] || suffix=bvecs
		vec-bench --make 5000 --kind $kind --seed 3 -n 20 --threads 1 \
			-o a.$suffix --query-out aq.$suffix
		vec-bench --make 5000 --kind $kind --seed 3 -n 20 --threads 3 \
			-o b.$suffix --query-out bq.$suffix --truth-out b.ivecs
		cmp a.$suffix b.$suffix
		cmp aq.$suffix bq.$suffix
		vec-bench --make 5000 --kind $kind --seed 4 -n 20 -o c.$suffix --query-out cq.$suffix
		run ! cmp -s a.$suffix c.$suffix
		run ! cmp -s aq.$suffix cq.$suffix
	done
	vec-bench --make 300 --kind sift --seed 3 -n 20 -o s.bvecs --query-out sq.bvecs
	vec-bench --make 5000 --kind sift --seed 3 -n 20 -o a.bvecs --query-out aq.bvecs
	cmp -n "$(stat -c %s s.bvecs)" s.bvecs a.bvecs
	cmp sq.bvecs aq.bvecs
}

@test "made vectors have the dimensions and the range of their kind" {
	vec-bench --make 3000 -n 5 -o s.bvecs --query-out sq.bvecs
	[ "$(stat -c %s s.bvecs)" -eq $((3000 * 132)) ]
	vec-bench --make 200 --kind mnist -n 5 -o m.bvecs --query-out mq.bvecs
	[ "$(stat -c %s m.bvecs)" -eq $((200 * 788)) ]
	vec-bench --make 200 --kind embed --dim 96 -n 5 -o e.npy --query-out eq.fvecs
	[ "$(stat -c %s e.npy)" -eq $((128 + 200 * 96 * 4)) ]
	[ "$(stat -c %s eq.fvecs)" -eq $((5 * (96 * 4 + 4))) ]
	python3 - <<-'END'
		import struct
		d = open("s.bvecs", "rb").read()
		zeros = 0
		for i in range(3000):
		    assert struct.unpack_from("<i", d, i * 132)[0] == 128
		    v = d[i * 132 + 4:(i + 1) * 132]
		    assert 480 < sum(x * x for x in v) ** 0.5 < 540
		    zeros += v.count(0)
		assert 0.05 < zeros / (3000 * 128) < 0.3, zeros
		assert len({d[i * 132:(i + 1) * 132] for i in range(3000)}) > 2990
		e = open("e.npy", "rb").read()[128:]
		for i in range(200):
		    v = struct.unpack_from("<96f", e, i * 384)
		    assert abs(sum(x * x for x in v) - 1) < 1e-4
	END
	run vec-bench --make 10 --kind embed -o e.bvecs --query-out q.bvecs
	[ "$status" -eq 4 ]
	run vec-bench --make 10 --kind dust -o e.bvecs --query-out q.bvecs
	[ "$status" -eq 4 ]
	[[ $output == *"none of sift, embed, mnist"* ]]
}

@test "computed neighbours are those of brute force, under every metric" {
	sets 400 9
	for m in l2 cosine ip; do
		mkdir $m
		bench --base base.fvecs --query query.fvecs --metric $m --only library -r 1 --cache $m \
			>out
		brute $m/*.ivecs $m
	done
}

@test "the neighbours of a made set are those of brute force" {
	vec-bench --make 4500 --kind embed --dim 12 -n 10 -o base.fvecs --query-out query.fvecs \
		--truth-out t.ivecs
	brute t.ivecs l2
}

@test "a truth that is cut, out of range or of something else is refused by name" {
	sets 300 8
	mkdir l2
	bench --base base.fvecs --query query.fvecs --only library -r 1 --cache l2 >out
	mv l2/*.ivecs good.ivecs
	run bench --base base.fvecs --query query.fvecs --only library -r 1 --truth good.ivecs
	[ "$status" -eq 0 ]
	[[ $output == *"from a file, a sample verified"* ]]
	head -c 300 good.ivecs >cut.ivecs
	{ head -c 4 good.ivecs; printf '\377\377\0\0'; tail -c +9 good.ivecs; } >far.ivecs
	python3 - <<-'END'
		import struct
		with open("other.ivecs", "wb") as f:
		    for i in range(12):
		        f.write(struct.pack("<i10i", 10, *range(i, i + 10)))
	END
	: >empty.ivecs
	for t in cut:"it is cut" far:"names vector 65535" other:"not of this base" \
		empty:"0 rows" missing:"No such file"; do
		run bench --base base.fvecs --query query.fvecs --only library --truth "${t%%:*}.ivecs"
		echo "$output"
		[ "$status" -eq 4 ] || [ "$status" -eq 5 ]
		[[ $output == *"${t%%:*}.ivecs: "*"${t#*:}"* ]]
	done
}

@test "a run without peers measures library, socket and mount and leaves nothing behind" {
	sets 1200 16
	before=$(vec-ls)
	unset VECFS_SOCKET
	run --separate-stderr bench --base base.fvecs --query query.fvecs -r 2 -s 0.2 --json all.json
	echo "$output$stderr"
	[ "$status" -eq 0 ]
	[[ $output == *"socket "* && $output == *"records/s"* && $output == *"50/50 searches"* ]]
	[[ $output != *"vs hnswlib"* ]]
	[ -z "$(ls -A tmp)" ]
	[ "$(jq '[.systems[].points | map(.recall) | max] | min > 0.98' all.json)" = true ]
	[ "$(jq '.records == 1200 and .dim == 16 and .questions == 12' all.json)" = true ]
	[ "$(jq '.loads.mixes | length == 3 and all(.put.p99_us >= .put.p50_us)' all.json)" = true ]
	[ "$(jq '.daemon.records_per_s > 0 and .daemon.jsonl_records == 1200' all.json)" = true ]
	# The mount is measured or its absence explained.
	[ "$(jq '(.systems | any(.name == "mount")) or .daemon.no_mount != ""' all.json)" = true ]
	export VECFS_SOCKET=$BASE/data.sock
	[ "$(vec-ls)" = "$before" ]
}

@test "with peers the last line has the ratios; without the program it says what to install" {
	sets 1500 16
	if [ ! -x "$VECFS_BIN/../libexec/vecfs/vec-bench-peers" ]; then
		run bench --base base.fvecs --query query.fvecs --peers
		[ "$status" -eq 5 ]
		[[ $output == *libhnswlib-dev* ]]
		run bench --base base.fvecs --query query.fvecs --only library,hnswlib
		[ "$status" -eq 5 ]
		[[ $output == *libhnswlib-dev* ]]
		return 0
	fi
	run --separate-stderr bench --base base.fvecs --query query.fvecs -r 2 --no-loads --no-jsonl \
		--peers --json all.json
	echo "$output$stderr"
	[ "$status" -eq 0 ]
	n='([0-9]+\.[0-9]{2}|-)'
	[[ ${lines[-1]} =~ ^vs\ hnswlib:\ r0\.90=$n\ r0\.95=$n\ r0\.99=$n\ build=$n\ ram=$n$ ]]
	[ "$(jq '.systems | any(.name == "hnswlib" and .rss_growth_bytes > 0)' all.json)" = true ]
	# The ratio printed is that of the figures written.
	want=$(jq '.systems[] | select(.name == "library") | .at_recall["0.950"].vs_hnswlib' all.json)
	got=$(sed 's/.*r0.95=\([^ ]*\).*/\1/' <<<"${lines[-1]}")
	[ "$(jq -n "($want - $got) | . < 0.006 and . > -0.006")" = true ]
}

@test "a daemon that runs is measured and keeps its collections" {
	sets 600 8
	before=$(vec-ls)
	run --separate-stderr bench --base base.fvecs --query query.fvecs --only socket -r 1 -s 0.1 \
		--daemon "$VECFS_SOCKET"
	echo "$output$stderr"
	[ "$status" -eq 0 ]
	[[ $output == *"socket "* ]]
	[ "$(vec-ls)" = "$before" ]
	run bench --base base.fvecs --query query.fvecs --only socket --daemon nowhere
	[ "$status" -ne 0 ]
	[[ $output == *nowhere* ]]
}

@test "half precision and packed files are read" {
	python3 - <<-'END'
		import random, struct
		random.seed(1)
		def npy(name, n):
		    head = "{'descr': '<f2', 'fortran_order': False, 'shape': (%d, 6), }" % n
		    head = head.ljust(117) + "\n"
		    with open(name, "wb") as f:
		        f.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
		        for _ in range(6 * n):
		            f.write(struct.pack("<e", random.uniform(-1, 1)))
		npy("base.npy", 500)
		npy("query.npy", 10)
	END
	run bench --base base.npy --query query.npy --only library -r 1
	[ "$status" -eq 0 ]
	[[ ${lines[0]} == "base: 500 x 6, l2, 10 questions"* ]]
	command -v zstd >/dev/null || return 0
	zstd -q base.npy query.npy
	run bench --base base.npy.zst --query query.npy.zst --only library -r 1 -n 4
	[ "$status" -eq 0 ]
	[[ ${lines[0]} == "base: 500 x 6, l2, 4 questions"* ]]
	head -c 900 base.npy.zst >cut.npy.zst
	run bench --base cut.npy.zst --query query.npy --only library -r 1
	[ "$status" -eq 4 ]
	[[ $output == *"cut.npy.zst: "* ]]
}

@test "a run that is stopped takes its daemon and its files with it" {
	sets 3000 16
	mkdir tmp
	TMPDIR=$PWD/tmp vec-bench -q --base base.fvecs --query query.fvecs --only socket -s 60 \
		>out 2>&1 3>&- 4>&- &
	pid=$!
	for _ in $(seq 1 300); do
		compgen -G "tmp/*/daemon/sock" >/dev/null && break
		sleep 0.1
	done
	compgen -G "tmp/*/daemon/sock"
	kill -TERM $pid
	rc=0
	wait $pid || rc=$?
	[ $rc -ne 0 ]
	[ -z "$(ls -A tmp)" ]
	run ! pgrep -f "$PWD/tmp/"
}

@test "a reader that goes away leaves nothing behind" {
	sets 300 8
	bench --base base.fvecs --query query.fvecs --only library -r 1 2>&1 | true
	for _ in $(seq 1 100); do
		[ -n "$(ls -A tmp)" ] || return 0
		sleep 0.1
	done
	return 1
}

@test "files that cannot be measured are refused with the reason" {
	sets 50 4
	run bench --base base.fvecs --query nope.fvecs
	[ "$status" -eq 5 ] || [ "$status" -eq 4 ]
	[[ $output == *nope.fvecs* ]]
	head -c 100 base.fvecs | tail -c 40 >bad.fvecs
	run bench --base bad.fvecs --query query.fvecs --only library
	[ "$status" -eq 4 ]
	[[ $output == *bad.fvecs* ]]
	vec-bench --make 20 --kind embed --dim 5 -n 3 -o five.fvecs --query-out q5.fvecs
	run bench --base base.fvecs --query q5.fvecs --only library
	[ "$status" -eq 4 ]
	[[ $output == *dimensions* ]]
	run bench --base base.fvecs --query query.fvecs --only library,qdrant
	[ "$status" -eq 2 ]
	[ -z "$(ls -A tmp)" ]
}
