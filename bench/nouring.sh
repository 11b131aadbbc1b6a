#!/usr/bin/env bash
# nouring.sh - writing where io_uring is refused (as containers do) beside writing where it is not, turn by turn.
#
#	nouring.sh [ROUNDS [BULK [SINGLES]]]      (make bench-no-uring; VECFS_BIN, VECFS_CRASH_BIN are where the programs are)
#
# Per round and kind: BULK generated vectors in batches, then two clients at once that put SINGLES records
# each, one commit per record.  Prints the medians of records per second and their ratio.
set -eu
rounds=${1:-5} bulk=${2:-100000} singles=${3:-3000}
bin=${VECFS_BIN:?}
nouring=${VECFS_CRASH_BIN:?}/nouring
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-bench-XXXXXX")
export VECFS_SOCKET=$work/sock
pid=

stop()
{
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || :
	while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
	pid=
	rm -rf "$work/data"
}
trap 'stop; rm -rf "$work"' EXIT

now()
{
	date +%s.%N
}

rate()
{
	awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN { printf "%.0f\n", n / (b - a) }'
}

"$bin/vec-bench" --make "$bulk" --kind sift --seed 1 -o "$work/base.bvecs" --query-out "$work/query.bvecs" >/dev/null
for c in 1 2; do
	awk -v c=$c -v n="$singles" 'BEGIN {
		for (i = 1; i <= n; i++)
			printf "{\"id\":\"s%d-%d\",\"vector\":[%d,1,2,3]}\n", c, i, i
	}' >"$work/singles.$c.jsonl"
done

# one KIND [WRAPPER]
one()
{
	kind=$1
	shift
	"$@" "$bin/vecfsd" -d --supervise=no --no-mount --pid-file "$work/pid" --log-file "$work/log" "$work/data"
	pid=$(cat "$work/pid")
	a=$(now)
	"$bin/vec-put" -q bulk "$work/base.bvecs"
	b=$(now)
	rate "$bulk" "$a" "$b" >>"$work/rates.bulk.$kind"
	"$bin/vec-index" wait bulk >/dev/null
	a=$(now)
	"$bin/vec-put" -q -b 1 singles "$work/singles.1.jsonl" &
	"$bin/vec-put" -q -b 1 singles "$work/singles.2.jsonl"
	wait $!
	b=$(now)
	rate $((2 * singles)) "$a" "$b" >>"$work/rates.singles.$kind"
	stop
}

for ((r = 0; r < rounds; r++)); do
	one uring
	one refused "$nouring"
done
for what in bulk singles; do
	for kind in uring refused; do
		sort -n "$work/rates.$what.$kind" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }' >"$work/m.$kind"
	done
	paste "$work/m.uring" "$work/m.refused" | awk -v what="$what" \
		'{ printf "%-8s %7d records/s with io_uring, %7d without: %.2fx\n", what, $1, $2, $2 / $1 }'
done
