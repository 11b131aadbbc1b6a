#!/usr/bin/env bash
# plants.sh DAEMON-OBJECTS - does the test of a killed worker see what it is there to see?
#
# Each bug is planted by one substitution into one source, which must match; the daemon linked with it must fail
# supervise.bats (some of it, and to hang is to fail), or else storm.py.  COMPILE, LINK, OBJS and LIBS come from make.
set -u -o pipefail
objs=${1:?}
here=$(dirname "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-plants-XXXXXX")
trap 'rm -rf "$work"' EXIT
missed=0 n=0
: "${COMPILE:?} ${LINK:?} ${OBJS:?} ${LIBS:?}"

# build NAME SOURCE SED: the daemon with the substitution, $work/vecfsd.
build()
{
	local src=daemon/$2.c
	sed "$3" "$src" >"$work/$2.c"
	if cmp -s "$src" "$work/$2.c"; then
		echo "$1: the substitution does not match $src" >&2
		return 1
	fi
	# shellcheck disable=SC2086
	$COMPILE -w -c -o "$work/$2.o" "$work/$2.c" || exit 1
	# shellcheck disable=SC2086
	$LINK -o "$work/vecfsd" ${OBJS/"$objs/$2.o"/"$work/$2.o"} $LIBS || exit 1
}

# plant NAME SOURCE SED
plant()
{
	n=$((n + 1))
	if ! build "$@"; then
		missed=$((missed + 1))
		return
	fi
	local rc=0
	VECFSD=$work/vecfsd timeout 90 bats -f 'go on where they were|A written' "$here/supervise.bats" \
		>"$work/log" 2>&1 || rc=$?
	if [ "$rc" -eq 124 ]; then
		pkill -9 -f "^$work/vecfsd" || true # its supervisor, then the worker goes with it
		echo "found  $1: a test hangs"
	elif [ "$rc" -ne 0 ]; then
		echo "found  $1: $(grep -c '^not ok' "$work/log") of 2 tests fail"
	elif ! VECFSD=$work/vecfsd timeout 600 "$here/storm.py" "${STORM_KILLS:-150}" >"$work/log" 2>&1; then
		echo "found  $1: storm.py: $(grep -m 1 FAILED "$work/log")"
	else
		echo "MISSED $1"
		missed=$((missed + 1))
	fi
}

# No bug, but a kernel before 6.9: the mount is made anew, and said to be.
old_kernel()
{
	local dir=$work/old sup
	mkdir -p "$dir/mnt"
	build "a kernel that does not repeat requests" fs_main 's/fs->resends = init .*/fs->resends = false;/' || return 1
	"$work/vecfsd" -d --socket "$dir/sock" --pid-file "$dir/pid" --log-file "$dir/log" "$dir/data" "$dir/mnt" || return 1
	sup=$(cat "$dir/pid")
	mkdir "$dir/mnt/docs"
	kill -9 "$(pgrep -P "$sup")"
	for _ in $(seq 100); do
		[ ! -d "$dir/mnt/docs/vec" ] || break
		sleep 0.1
	done
	[ -d "$dir/mnt/docs/vec" ] && grep -q 'does not repeat requests' "$dir/log" && grep -q 'mounted anew' "$dir/log"
	local rc=$?
	kill "$sup"
	while kill -0 "$sup" 2>/dev/null; do
		sleep 0.1
	done
	umount -l "$dir/mnt" 2>/dev/null
	return $rc
}

plant "requests are not asked for again" fs_main 's/rc = ask_for_resend(fs, err);/rc = 0;/'
plant "batches have no names" fs_again 's/batch_name(b, carry_epoch/if (0) batch_name(b, carry_epoch/'
plant "answers are not remembered" fs_again 's/\*ret_status = r->status;/return false;/'
plant "states are not carried over" fs_again 's/int rc = encode(h);/int rc = (now.state.len = 0);/'
plant "nodes are not carried over" carry 's/cell.n = \*n;/;/'
plant "parts of a transaction are written at once" sock_ops 's/batch_hide(p->b, s->txn);/;/'
plant "a commit that was interrupted is said not to be" sock_txn 's/a->committed = committed;/a->committed = false;/'
plant "the length of staged bytes is forgotten" fs_stage 's/^	ct->size = size;$/	ct->size = 0;/'
if old_kernel; then
	echo "a kernel that does not repeat requests: the mount is made anew"
else
	echo "FAILED: a kernel that does not repeat requests"
	missed=$((missed + 1))
fi
echo "$n bugs planted, $((n - missed)) found"
[ "$missed" -eq 0 ]
