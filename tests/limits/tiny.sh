#!/usr/bin/env bash
# tiny.sh [COLLECTIONS] - a daemon with thousands of collections of a few records.
#
# Makes COLLECTIONS of three records each, stops the daemon, starts it again, lists them and asks one question of
# each.  Prints the time until the first answer, the time for all questions, and the memory; fails above
# the bounds of the manual: MAX_START_MS (5000) and MAX_MIB (500).
set -u -o pipefail
n=${1:-2000}
bin=${VECFS_BIN:?VECFS_BIN is not set: run this through make check-tiny}
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-tiny-XXXXXX")
export VECFS_SOCKET=$work/sock
daemon=''

stop()
{
	[ -z "$daemon" ] || { kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; }
	daemon=''
}
cleanup()
{
	stop
	rm -rf "$work"
}
trap cleanup EXIT

fail()
{
	echo "FAILED: $*" >&2
	tail -n 20 "$work/log" >&2
	exit 1
}

now()
{
	date +%s%N
}

start()
{
	"$bin/vecfsd" --no-mount --socket "$work/sock" "$work/data" >>"$work/log" 2>&1 &
	daemon=$!
	for _ in $(seq 1 6000); do
		"$bin/vec-ls" -q >/dev/null 2>&1 && return 0
		kill -0 "$daemon" 2>/dev/null || fail "the daemon is gone"
		sleep 0.01
	done
	fail "the daemon does not answer"
}

rss_mib()
{
	awk -v key="$1:" '$1 == key {print int($2 / 1024)}' "/proc/$daemon/status"
}

start
t0=$(now)
for i in $(seq 1 "$n"); do
	printf '{"id":"a","vector":[%d,1,2]}\n{"id":"b","vector":[1,%d,2]}\n{"id":"c","vector":[1,2,%d]}\n' \
		"$i" "$i" "$i" | "$bin/vec-put" -q "t$i" || fail "vec-put t$i"
done
t1=$(now)
made_mib=$(rss_mib VmRSS)
stop
t2=$(now)
start
t3=$(now)
[ "$("$bin/vec-ls" -i | wc -l)" -eq "$n" ] || fail "not all collections are there"
for i in $(seq 1 "$n"); do
	got=$(echo "[$i,1,2]" | "$bin/vec-query" -q -i -k 1 "t$i") || fail "vec-query t$i"
	case $i:$got in 1:* | 2:* | *:a) ;; *) fail "t$i answers '$got'" ;; esac
done
t4=$(now)
mib=$(rss_mib VmRSS) anon=$(rss_mib RssAnon)
printf '%d collections: made in %.1f s (%d MiB), open after %.2f s, asked in %.1f s, %d MiB resident, %d anonymous\n' \
	"$n" "$(((t1 - t0) / 100000000))e-1" "$made_mib" "$(((t3 - t2) / 10000000))e-2" \
	"$(((t4 - t3) / 100000000))e-1" "$mib" "$anon"
[ "$mib" -le "${MAX_MIB:-500}" ] || fail "$mib MiB are more than ${MAX_MIB:-500}"
[ $(((t3 - t2) / 1000000)) -le "${MAX_START_MS:-5000}" ] || fail "the start took too long"
