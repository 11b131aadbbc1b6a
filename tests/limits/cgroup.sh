#!/usr/bin/env bash
# cgroup.sh [RECORDS [DIM [LIMIT_MIB]]] - the daemon in a memory control group that is smaller than its vectors.
#
# Puts RECORDS generated vectors of DIM components through the socket into a daemon whose control group allows
# LIMIT_MIB, waits for the index, and asks questions whose true answers are known.  All must be
# answered with the promised recall, nothing may be killed, and writers beyond the limit
# must hear EDQUOT instead.  Prints what was used.  Status 77, with the reason: no control group may be made.
set -u -o pipefail
n=${1:-30000} dim=${2:-1024} limit=${3:-112}
bin=${VECFS_BIN:?VECFS_BIN is not set: run this through make check-cgroup}
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-cgroup-XXXXXX")
export VECFS_SOCKET=$work/sock
daemon='' group=''

cleanup()
{
	[ -z "$daemon" ] || { kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; }
	[ -z "$group" ] || rmdir "$group" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT

fail()
{
	echo "FAILED: $*" >&2
	[ ! -s "$work/log" ] || tail -n 20 "$work/log" >&2
	exit 1
}

# Version 1 or 2, whichever is there and may be written.
if [ -w /sys/fs/cgroup/memory/memory.limit_in_bytes ] || [ -d /sys/fs/cgroup/memory ]; then
	group=/sys/fs/cgroup/memory/vecfs-test-$$
	if ! mkdir "$group" 2>/dev/null; then
		group=''
	else
		echo $((limit << 20)) >"$group/memory.limit_in_bytes" || fail "no limit can be set"
		# With swap a group that is too small would only be slow.
		echo $((limit << 20)) 2>/dev/null >"$group/memory.memsw.limit_in_bytes" || true
	fi
elif [ -f /sys/fs/cgroup/cgroup.controllers ]; then
	group=/sys/fs/cgroup/vecfs-test-$$
	if ! mkdir "$group" 2>/dev/null || ! echo $((limit << 20)) 2>/dev/null >"$group/memory.max"; then
		rmdir "$group" 2>/dev/null
		group=''
	else
		echo 0 2>/dev/null >"$group/memory.swap.max" || true
	fi
fi
if [ -z "$group" ]; then
	echo "no memory control group may be made here"
	exit 77
fi

killed()
{
	if [ -f "$group/memory.events" ]; then
		awk '$1 == "oom_kill" {print $2}' "$group/memory.events"
	else
		awk '$1 == "oom_kill" {print $2}' "$group/memory.oom_control"
	fi
}

peak()
{
	cat "$group/memory.max_usage_in_bytes" 2>/dev/null || cat "$group/memory.peak" 2>/dev/null || echo 0
}

anon_kib()
{
	awk '$1 == "RssAnon:" {print $2}' "/proc/$daemon/status"
}

"$bin/vec-bench" --make "$n" --dim "$dim" -n 100 -o "$work/base.fvecs" \
	--query-out "$work/query.fvecs" --truth-out "$work/truth.ivecs" >/dev/null ||
	fail "the vectors cannot be made"
bash -c 'echo $$ > "$1/cgroup.procs" && exec "$2/vecfsd" --no-mount --socket "$3/sock" "$3/data"' \
	- "$group" "$bin" "$work" >"$work/log" 2>&1 &
daemon=$!
for _ in $(seq 1 200); do
	"$bin/vec-ls" >/dev/null 2>&1 && break
	sleep 0.05
done
"$bin/vec-create" --metric l2 big || fail "the daemon does not answer"
"$bin/vec-put" -q big "$work/base.fvecs" || fail "vec-put"
"$bin/vec-index" -q wait big || fail "vec-index wait"
# What vec-put numbered from 0 is what the truth has.
"$bin/vec-query" -q -k 10 -i big "$work/query.fvecs" >"$work/got" || fail "vec-query"
found=$("$bin/vec-recall" -j -n 50 big | sed 's/.*"recall":\([0-9.]*\).*/\1/')
answers=$(wc -l <"$work/got")
[ "$answers" -eq 1000 ] || fail "$answers neighbours instead of 1000"
awk -v r="$found" 'BEGIN { exit !(r >= 0.9) }' || fail "recall $found"
[ "$(killed)" = 0 ] || fail "the kernel killed $(killed)"
kill -0 "$daemon" || fail "the daemon is gone"
used=$(anon_kib)
# Writing on, until it is refused.
status=0 rounds=0
while [ $rounds -lt 40 ]; do
	"$bin/vec-put" -q "more$rounds" "$work/base.fvecs" 2>"$work/err" || { status=$?; break; }
	rounds=$((rounds + 1))
done
[ $status -ne 0 ] || fail "nothing was refused after $rounds more copies"
grep -q 'memory-max' "$work/err" || fail "refused for another reason: $(cat "$work/err")"
[ "$(killed)" = 0 ] || fail "the kernel killed $(killed) while writing on"
"$bin/vec-query" -q -k 10 -i big "$work/query.fvecs" >"$work/again" || fail "vec-query at the limit"
[ "$(wc -l <"$work/again")" -eq 1000 ] || fail "answers are missing at the limit"
echo "$n x $dim: vectors $((n * dim * 4 >> 20)) MiB, limit $limit MiB, anonymous $((used >> 10)) MiB," \
	"peak $(($(peak) >> 20)) MiB, recall $found, $rounds more copies before EDQUOT, nothing killed"
