#!/usr/bin/env bash
# restart.sh - how long a daemon takes from exec to its first right answer over the socket, and how fast it loads its
# checkpoint: after a clean stop, after kill -9, after kill -9 with new records; and how long a supervised worker is away.
#
#	restart.sh [BASE.bvecs]        (make bench-restart; VECFS_BIN is where the programs are; RECORDS=200000 are made
#	                               without BASE; ROUNDS=5 of each case)
#
# The answer is right when it is what an exact search said before.  Each line has all rounds, in ms, and their median.
set -eu
bin=${VECFS_BIN:?}
records=${RECORDS:-200000} rounds=${ROUNDS:-5} new=1000
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

# In microseconds.
now()
{
	echo "${EPOCHREALTIME/[.,]/}"
}

start()
{
	"$bin/vecfsd" --no-mount --log-file "$work/log" "$work/data" &
	pid=$!
}

# Waits until $1 has its first neighbour right.
answered()
{
	local until=$(($(now) + 120000000))
	while [ "$("$bin/vec-query" -q -k 1 -i bench "$work/$1.bvecs" 2>/dev/null || :)" != "$(cat "$work/$1.right")" ]; do
		[ "$(now)" -lt "$until" ] || { echo "no right answer in 120 s" >&2; exit 1; }
		sleep 0.002
	done
}

# stop SIGNAL
stop()
{
	kill "-$1" "$pid"
	wait "$pid" 2>/dev/null || :
	pid=
}

# report WHAT, with a number in microseconds per line of input
report()
{
	sort -n | awk -v what="$1" '{ t[NR] = $1 / 1000; all = all sprintf(" %.0f", t[NR]) }
		END { printf "%-44s median %.0f ms (%s )\n", what, t[int((NR + 1) / 2)], all }'
}

# timed QUESTION: starts; prints how long the answer took.
timed()
{
	local t0
	t0=$(now)
	start
	answered "$1"
	echo $(($(now) - t0)) >>"$work/times"
}

# last of the lines about checkpoints since the log had $1 lines
loads()
{
	tail -n "+$(($1 + 1))" "$work/log" | sed -n 's/.*checkpoint loaded: /    best load: /p' | sort -k 8 -n | tail -n 1
}

base=${1:-}
if [ -z "$base" ]; then
	base=$work/base.bvecs
	"$bin/vec-bench" -q --make "$records" --kind sift -o "$base" --query-out "$work/all.bvecs"
fi
dim=$(od -A n -t u4 -N 4 "$base" | tr -d ' ')
row=$((4 + dim))
size=$(stat -c %s "$base")
# The new records are the last of the set, with ids of their own.
head -c $((size - new * row)) "$base" >"$work/old.bvecs"
tail -c $((new * row)) "$base" >"$work/new.bvecs"
head -c "$row" "$work/old.bvecs" >"$work/first.bvecs"
tail -c "$row" "$work/new.bvecs" >"$work/last.bvecs"
"$bin/vec-conv" "$work/new.bvecs" | sed 's/^{"id":"/&new/' >"$work/new.jsonl"

start
until "$bin/vec-ls" >/dev/null 2>&1; do sleep 0.01; done
"$bin/vec-create" bench --metric l2
t0=$(now)
"$bin/vec-put" -q bench "$work/old.bvecs"
"$bin/vec-index" wait bench
echo "$(((size / row) - new)) x $dim: stored and indexed in $((($(now) - t0) / 1000)) ms"
"$bin/vec-query" -q -k 1 -i --exact bench "$work/first.bvecs" >"$work/first.right"

for how in TERM KILL; do
	: >"$work/times"
	lines=$(wc -l <"$work/log")
	[ "$how" = TERM ] || "$bin/vec-index" -q save bench
	for _ in $(seq "$rounds"); do
		stop "$how"
		timed first
	done
	report "$([ $how = TERM ] && echo 'after a clean stop' || echo 'after kill -9')" <"$work/times"
	loads "$lines"
done

# Acknowledged, and killed in the same breath: the answer is one of them.
: >"$work/times"
lines=$(wc -l <"$work/log")
for _ in $(seq "$rounds"); do
	"$bin/vec-put" -q bench "$work/new.jsonl"
	[ -s "$work/last.right" ] ||
		"$bin/vec-query" -q -k 1 -i --exact bench "$work/last.bvecs" >"$work/last.right"
	stop KILL
	timed last
done
report "after kill -9 with $new new records" <"$work/times"
loads "$lines"
stop TERM

if [ -w /dev/fuse ]; then
	"$bin/vecfsd" -d --supervise --pid-file "$work/pid" --log-file "$work/log" "$work/data" "$work/mnt"
	pid=$(cat "$work/pid")
	answered first
	: >"$work/times"
	for _ in $(seq "$rounds"); do
		worker=$(pgrep -P "$pid")
		t0=$(now)
		kill -9 "$worker"
		while kill -0 "$worker" 2>/dev/null; do :; done
		answered first
		echo $(($(now) - t0)) >>"$work/times"
	done
	report "a supervised worker, from kill -9" <"$work/times"
fi
