#!/bin/sh
# plants.sh - shows that the tests that flip bytes notice: plants bugs in what verifies, one by one.
#
#	plants.sh OUT "COMPILER FLAGS" "LINKER FLAGS" LIB TESTS-DIR PATCH...
#
# Each patch takes one check away from one source, and names the test that must fail then.  It is applied to a
# copy; one that does not apply or compile is a failure: the source has changed, and the bug must be planted anew.
# The mutated object is linked before the library, whose own is then not taken.  The short form of the test is
# tried first, with two seeds; then every byte is flipped until something is found.  A test that hangs has found
# nothing.
set -eu
# shellcheck disable=SC1091 # linted by itself
. tests/plant.sh
out=$1 cc=$2 ld=$3 lib=$4 tests=$5
shift 5
rc=0 n=0 found=0
unset ROT_ALL
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
	export TMPDIR=/dev/shm
fi
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-plants.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 1' INT TERM

# What the tests of a module share.
common()
{
	case $1 in
	store) echo "$tests/store/fixture.o" ;;
	wal) echo "$tests/wal/fakedisk.o $tests/wal/model.o $tests/wal/oom.o $tests/wal/faultdisk.o" ;;
	cluster) echo "$tests/cluster/dbtest.o $tests/wal/oom.o" ;;
	esac
}

# flips PATTERN SECONDS [NAME=VALUE...]: whether the test fails.
flips()
{
	pattern=$1 limit=$2
	shift 2
	status=0
	env ROT_TEST="$pattern" "$@" timeout "$limit" "$dir/test" >"$dir/log" 2>&1 || status=$?
	rm -rf "${TMPDIR:?}"/*
	[ "$status" -ne 0 ] && [ "$status" -ne 124 ] && grep -q 'RUN' "$dir/log"
}

for p; do
	name=$(basename "$p" .patch)
	dir=$out/$name
	n=$((n + 1))
	src=$(sed -n 's|^+++ b/||p' "$p")
	test=$(sed -n 's|^Found by \([^ ]*\) .*|\1|p' "$p")
	pattern=$(sed -n 's|^Found by [^ ]* \(.*\)|\1|p' "$p")
	if ! plant; then
		rc=1
		continue
	fi
	# shellcheck disable=SC2046,SC2086 # lists of words
	if ! $cc -w -c -o "$dir/mutant.o" "$dir/$src" 2>"$dir/log" ||
		! $ld -o "$dir/test" "$dir/mutant.o" "$tests/$test.o" $(common "${test%%/*}") "$lib" -lcmocka $LIBS \
			2>>"$dir/log"; then
		echo "$name: does not build:"
		cat "$dir/log"
		rc=1
		continue
	fi
	if flips "$pattern" 300 SEED=1 || flips "$pattern" 300 SEED=2 || flips "$pattern" 900 SEED=1 ROT_ALL=1; then
		found=$((found + 1))
		echo "$name: found: $(sed -n 's/^\[  ERROR   \] --- //p' "$dir/log" | head -n 1)"
	else
		echo "$name: NOT found by $test $pattern"
		rc=1
	fi
done
echo "plants: $n; found: $found"
exit $rc
