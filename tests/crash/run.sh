#!/usr/bin/env bash
# run.sh CYCLES [daemon] - kill -9 under load; what was acknowledged must be there afterwards.
#
# Two thirds of the cycles run the database inside a process that is killed (tests/cluster/test_crash.c:
# every key's version is checked after every kill, with 1 and with 4 shards).  The rest kill the real
# daemon while tools and plain shell redirections write through socket and mount (here): every id whose
# writer was told "done" must be listed, every id whose removal was confirmed must not.  Every second time vec-fsck
# looks at what the kill left and at what is served after the next start, and finds nothing.  With "daemon" all of them are
# of that second kind.
set -u -o pipefail
cycles=${1:-500}
bin=${VECFS_BIN:?VECFS_BIN is not set: run this through make check-crash}
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-crash-XXXXXX")
mnt=$work/mnt
mkdir "$mnt"
export VECFS_SOCKET=$work/sock
daemon=
writers=()

cleanup()
{
	[ ${#writers[@]} -eq 0 ] || kill "${writers[@]}" 2>/dev/null
	[ -z "$daemon" ] || kill -9 "$daemon" 2>/dev/null
	wait 2>/dev/null
	umount -l "$mnt" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT

fail()
{
	echo "FAILED: $*" >&2
	[ ! -s "$work/log" ] || tail -n 20 "$work/log" >&2
	exit 1
}

start()
{
	"${VECFSD:-$bin/vecfsd}" -d --supervise=no --shards "$1" --pid-file "$work/pid" --log-file "$work/log" \
		"$work/data" "$mnt" || fail "the daemon did not start"
	daemon=$(cat "$work/pid")
}

# Batches through vec-put, and removals of some of them, each noted once it was acknowledged.
tool_writer()
{
	local n=$1 cycle=$2 i=0 ids
	while :; do
		i=$((i + 1))
		ids=$(seq -f "t$n-$cycle-$i-%g" 1 20)
		awk '{ printf "{\"id\":\"%s\",\"vector\":[%d,%d,1]}\n", $1, NR, length($1) }' <<<"$ids" |
			"$bin/vec-put" -q docs 2>/dev/null || return 0
		echo "$ids" >>"$work/acked.$n"
		if [ $((i % 3)) -eq 0 ]; then
			ids=$(head -n 5 <<<"$ids")
			# From here on their state is unknown until the removal is confirmed.
			echo "$ids" >>"$work/removing.$n"
			echo "$ids" | "$bin/vec-rm" -q docs 2>/dev/null || return 0
			echo "$ids" >>"$work/removed.$n"
		fi
	done
}

# Single records through the mount, as a shell writes them.
mount_writer()
{
	local n=$1 cycle=$2 i=0
	while :; do
		i=$((i + 1))
		echo "[0.$i, $cycle, 1]" >"$mnt/docs/vec/m$n-$cycle-$i.json" || return 0
		echo "m$n-$cycle-$i" >>"$work/acked.$n"
	done 2>/dev/null
}

verify()
{
	"$bin/vec-scan" -i docs | LC_ALL=C sort >"$work/there" || fail "vec-scan failed"
	LC_ALL=C sort -u "$work"/acked.* >"$work/acked"
	LC_ALL=C sort -u /dev/null "$work"/removing.* 2>/dev/null >"$work/removing"
	LC_ALL=C sort -u /dev/null "$work"/removed.* 2>/dev/null >"$work/removed"
	LC_ALL=C comm -23 "$work/acked" "$work/removing" | LC_ALL=C comm -23 - "$work/there" >"$work/lost"
	LC_ALL=C comm -12 "$work/removed" "$work/there" >"$work/back"
	[ ! -s "$work/lost" ] || fail "cycle $1: lost: $(head -n 5 "$work/lost" | tr '\n' ' ')"
	[ ! -s "$work/back" ] || fail "cycle $1: came back: $(head -n 5 "$work/back" | tr '\n' ' ')"
}

# DATA or a collection; WHEN
fsck()
{
	"$bin/vec-fsck" "$1" >"$work/fsck" 2>&1 && [ ! -s "$work/fsck" ] && return
	fail "vec-fsck $2: $(head -n 5 "$work/fsck")"
}

daemon_cycles()
{
	local shards=$1 count=$2 c w now before=0
	rm -rf "$work/data" "$work"/acked.* "$work"/remov*
	start "$shards"
	# A graph would have to be linked anew after each kill, and its writers wait for that once 8,192 slots are not.
	"$bin/vec-create" docs --metric l2 --dim 3 --index flat || fail "vec-create"
	: >"$work/acked.0"
	for ((c = 1; c <= count; c++)); do
		writers=()
		for w in 1 2; do
			tool_writer $w $c &
			writers+=($!)
		done
		for w in 3 4; do
			mount_writer $w $c &
			writers+=($!)
		done
		sleep "0.$((RANDOM % 4 + 1))$((RANDOM % 10))"
		kill -9 "$daemon"
		wait "${writers[@]}" 2>/dev/null
		writers=()
		[ $((c % 2)) -eq 0 ] || fsck "$work/data" "after kill $c"
		start "$shards" # clears the dead mount, too
		verify "$c"
		[ $((c % 2)) -eq 0 ] || fsck docs "after recovery $c"
		now=$(wc -l <"$work/acked")
		[ $((c % 20)) -ne 0 ] || {
			[ "$now" -gt "$before" ] || fail "cycle $c: nothing was acknowledged in twenty cycles"
			before=$now
		}
		printf '\r  daemon with %d shard(s): cycle %d of %d, %d acknowledged ' "$shards" \
			"$c" "$count" "$now"
	done
	kill "$daemon"
	while kill -0 "$daemon" 2>/dev/null; do sleep 0.05; done
	daemon=
	echo
	fsck "$work/data" "at the end"
}

third=$((cycles / 3))
[ "${2:-}" != daemon ] || third=0
for shards in 1 4; do
	[ "$third" -gt 0 ] || continue
	CRASH_CYCLES=$third VECFS_TEST_SHARDS=$shards "$bin/../tests/cluster/test_crash" ||
		fail "test_crash with $shards shard(s)"
done
rest=$((cycles - 2 * third))
# Anew after some time: all that was ever acknowledged is looked for in every cycle.
most=$(((rest + 1) / 2 < 50 ? (rest + 1) / 2 : 50)) shards=1
for ((at = 0; at < rest; at += part)); do
	part=$((rest - at < most ? rest - at : most))
	daemon_cycles $shards $part
	shards=$((5 - shards))
done
echo "$cycles kill -9 cycles: nothing acknowledged was lost, nothing removed came back, vec-fsck found nothing"
