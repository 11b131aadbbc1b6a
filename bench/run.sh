#!/bin/sh
# run.sh - vec-bench over the sets at hand: what "make bench" does.
#
#	run.sh full|quick|index [ARG...]     ARGs go to every vec-bench
#
# VECFS_BIN has the programs, OUT takes the results (SET.json, *.png), VECFS_BENCH_DATA may have sets by name:
# sift-200k, mnist-784, embed-768-20k, each .base and .query as bvecs or npy and .gt.ivecs, with
# or without .zst.  BENCH_SETS names the sets to take (default: all that the mode has).  Generated sets and computed neighbours are kept in OUT for the next run.
set -eu
mode=$1
shift
bin=${VECFS_BIN:?}
out=${OUT:?}
data=${VECFS_BENCH_DATA:-}
mkdir -p "$out/sets" "$out/truth"
peers=--peers
if [ ! -x "$bin/../libexec/vecfs/vec-bench-peers" ]; then
	echo "bench: no peers: install g++, libhnswlib-dev and libfaiss-dev (scripts/deps.sh bench)" >&2
	peers=
fi
: >"$out/lines.new"
failed=0

# The first of the names that is there.
first()
{
	for f; do
		if [ -r "$f" ]; then
			echo "$f"
			return
		fi
	done
}

# one NAME METRIC BASE QUERY TRUTH [ARG...]
one()
{
	name=$1 metric=$2 base=$3 query=$4 truth=$5
	shift 5
	echo "=== $name"
	rc=0
	"$bin/vec-bench" --base "$base" --query "$query" ${truth:+--truth "$truth"} --metric "$metric" \
		--name "$name" --cache "$out/truth" --json "$out/$name.json" --plots "$out" \
		$peers "$@" >"$out/$name.txt" || rc=$?
	cat "$out/$name.txt"
	[ $rc -eq 0 ] || failed=1
	line=$(tail -n 1 "$out/$name.txt")
	case $line in
	"vs hnswlib: "*) printf '%-16s %s\n' "$name" "$line" >>"$out/lines.new" ;;
	*) printf '%-16s no comparison\n' "$name" >>"$out/lines.new" ;;
	esac
	echo
}

part()
{
	f=$data/$name.$1
	first "$f.bvecs" "$f.npy" "$f.bvecs.zst" "$f.npy.zst"
}

wanted()
{
	case " ${BENCH_SETS:-$1} " in
	*" $1 "*) return 0 ;;
	esac
	return 1
}

# A set of VECFS_BENCH_DATA: found NAME METRIC [ARG...]
found()
{
	name=$1 metric=$2
	shift 2
	[ -n "$data" ] && wanted "$name" || return 0
	b=$(part base) q=$(part query)
	t=$(first "$data/$name.gt.ivecs" "$data/$name.gt.ivecs.zst")
	if [ -z "$b" ] || [ -z "$q" ]; then
		echo "bench: $name is not in $data" >&2
		return 0
	fi
	one "$name" "$metric" "$b" "$q" "$t" "$@"
}

# A set that is made, unless it is there from the last time: made NAME KIND N [ARG...]
made()
{
	name=$1 kind=$2 n=$3
	shift 3
	wanted "$name" || return 0
	case $kind in
	embed) suffix=fbin metric=cosine ;;
	*) suffix=bvecs metric=l2 ;;
	esac
	s=$out/sets/$kind-$n
	if [ ! -r "$s.gt.ivecs" ]; then
		"$bin/vec-bench" --make "$n" --kind "$kind" --seed 1 -o "$s.base.$suffix" \
			--query-out "$s.query.$suffix" --truth-out "$s.gt.ivecs.tmp"
		mv "$s.gt.ivecs.tmp" "$s.gt.ivecs"
	fi
	one "$name" "$metric" "$s.base.$suffix" "$s.query.$suffix" "$s.gt.ivecs" "$@"
}

case $mode in
full)
	found sift-200k l2 "$@"
	found mnist-784 l2 "$@"
	found embed-768-20k cosine "$@"
	made made-sift-1m sift 1000000 --growth "$@"
	made made-embed-200k embed 200000 "$@"
	;;
quick)
	made made-sift-20k sift 20000 --rounds 3 --seconds 1 "$@"
	made made-embed-5k embed 5000 --rounds 3 --seconds 1 "$@"
	;;
index)
	[ -n "$data" ] || echo "bench: name a directory of sets: make bench-index VECFS_BENCH_DATA=DIR"
	found sift-200k l2 --only library,hnswlib,faiss "$@"
	found mnist-784 l2 --only library,hnswlib,faiss "$@"
	found embed-768-20k cosine --only library,hnswlib,faiss "$@"
	;;
*)
	echo "usage: run.sh full|quick|index [ARG...]" >&2
	exit 2
	;;
esac
mv "$out/lines.new" "$out/lines.txt"
echo "=== all; tables, JSON and plots are in $out"
cat "$out/lines.txt"
exit $failed
