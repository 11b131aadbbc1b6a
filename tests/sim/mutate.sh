#!/bin/sh
# mutate.sh - shows that the simulator finds bugs: plants them one by one.
#
#	mutate.sh OUT SEEDS "COMPILER FLAGS" "LINKER FLAGS" LIB OBJECT... -- TEST.o... -- [PATCH...]
#
# Each file in tests/sim/mutations is a patch of one source that plants one bug.  It is applied to a copy
# (the tree is never touched); a patch that does not apply, or does not compile, is a failure: then the
# source has changed and the bug must be planted anew.  The mutated object is linked before the library, whose own is
# then not taken.  A mutant is found when simulate ends with a finding within SEEDS seeds.  Some rules are
# about orders of messages that random faults do not meet in so many seeds (or that libraft itself
# never sends): for these the directed tests (TEST.o) must fail, and the line says so.
set -eu
# shellcheck disable=SC1091 # linted by itself
. tests/plant.sh
out=$1 seeds=$2 cc=$3 ld=$4 lib=$5
shift 5
objs=
while [ "$1" != -- ]; do
	objs="$objs $1"
	shift
done
shift
tests=
while [ "$1" != -- ]; do
	tests="$tests $1"
	shift
done
shift
rc=0 n=0 found=0 directed=0

# The name of the first directed test that fails with the mutant of "$1".
directed_test()
{
	for t in $tests; do
		prog=$1/$(basename "$t" .o)
		# shellcheck disable=SC2086 # lists of words
		$ld -o "$prog" "$1/mutant.o" "$t" ${objs#*simulate.o} "$lib" -lcmocka $LIBS 2>>"$1/log" || return 1
		timeout 120 "$prog" >"$1/log" 2>&1 && continue
		name_of=$(sed -n 's/^\[ *FAILED *\] \([a-z_0-9]*\)$/\1/p' "$1/log" | head -n 1)
		echo "${name_of:-$(sed -n 's/^\[ RUN *\] //p' "$1/log" | tail -n 1)}"
		return 0
	done
	return 1
}

for p in "$@"; do
	name=$(basename "$p" .patch)
	dir=$out/$name
	n=$((n + 1))
	src=$(sed -n 's|^+++ b/||p' "$p")
	if ! plant; then
		rc=1
		continue
	fi
	# shellcheck disable=SC2086 # lists of words
	if ! $cc -w -c -o "$dir/mutant.o" "$dir/$src" 2>"$dir/log" ||
		! $ld -o "$dir/simulate" "$dir/mutant.o" $objs "$lib" $LIBS 2>>"$dir/log"; then
		echo "$name: does not build:"
		cat "$dir/log"
		rc=1
		continue
	fi
	if SEED=1 SEEDS=$seeds STOP=1 "$dir/simulate" >"$dir/log" 2>&1; then
		if why=$(directed_test "$dir"); then
			directed=$((directed + 1))
			echo "$name: not in $seeds seeds; directed test $why"
		else
			echo "$name: NOT found in $seeds seeds, nor by a directed test"
			rc=1
		fi
	elif ! grep -q '^seed .* found something' "$dir/log"; then
		echo "$name: simulate fails:"
		cat "$dir/log"
		rc=1
	else
		found=$((found + 1))
		seed=$(sed -n 's/^seed \([0-9]*\) found.*/\1/p' "$dir/log" | head -n 1)
		why=$(sed -n 's/^SEED=[0-9]* at [0-9]* ms: //p; s/.*Assertion/assertion/p; s/^seed [0-9]*: signal/signal/p' \
			"$dir/log" | head -n 1)
		echo "$name: seed $seed: $why"
	fi
done
echo "mutations: $n; found by the simulator: $found; by directed tests alone: $directed"
exit $rc
