#!/usr/bin/env bash
# front.sh - end to end on one set: ingest through vec-put until indexed, beside the index alone (before and after); memory of the
# daemon; questions through the mount beside the library call.
#
#	front.sh BASE QUERIES METRIC        (make bench-front; VECFS_BIN is where the programs are)
set -eu
base=$1 queries=$2 metric=$3
bin=${VECFS_BIN:?}
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-bench-XXXXXX")
mkdir "$work/mnt"
export VECFS_SOCKET=$work/sock
pid=

cleanup()
{
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || :
	while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
	umount -l "$work/mnt" 2>/dev/null || :
	rm -rf "$work"
}
trap cleanup EXIT

now()
{
	date +%s.%N
}

"$bin/bench-front" build "$base" "$metric" "$(nproc)"
"$bin/vecfsd" -d --pid-file "$work/pid" --log-file "$work/log" "$work/data" "$work/mnt"
pid=$(cat "$work/pid")
"$bin/vec-create" bench --metric "$metric"
t0=$(now)
"$bin/vec-put" -q bench "$base"
t1=$(now)
"$bin/vec-index" wait bench
t2=$(now)
rss=$(awk '/^(VmRSS|RssAnon|RssFile|VmHWM):/ { printf "%s %.1f MB  ", $1, $2 / 1000 }' "/proc/$pid/status")
count=$(awk '$1 == "count" { print $2 }' "$work/mnt/bench/stats")
dim=$(awk '$1 == "dim" { print $2 }' "$work/mnt/bench/stats")
awk -v a="$t0" -v b="$t1" -v c="$t2" -v n="$count" -v d="$dim" -v rss="$rss" 'BEGIN {
	printf "%d x %d: vec-put %.2f s (%.0f records/s), index ready %.2f s after the start\n",
		n, d, b - a, n / (b - a), c - a
	printf "raw float32 %.1f MB; daemon after ingest: %s\n", n * d * 4 / 1e6, rss
}'
"$bin/bench-front" mount "$work/mnt/bench/query.ids" "$queries"
kill "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
pid=
"$bin/bench-front" library "$work/data" bench "$queries"
"$bin/bench-front" build "$base" "$metric" "$(nproc)"
