#!/bin/sh
# plants.sh - shows that the fuzzers find something: plants a missing check in what each of them feeds.
#
#	plants.sh OUT "COMPILER FLAGS" "LINKER FLAGS" LIB "LIBRARIES" SECONDS PATCH...
#
# A patch has the name of the fuzzer that must find it, and takes one check away from one source.  It is applied to a copy;
# one that does not apply or compile is a failure: the source has changed, and the bug must be planted anew.  A fuzzer that
# includes the source is compiled with the copy; else the mutated object is linked before the library, whose own is not taken then.
# Each begins with its seeds, as always, and has SECONDS.
set -eu
# shellcheck disable=SC1091 # linted by itself
. tests/plant.sh
out=$1 cc=$2 ld=$3 lib=$4 libs=$5 seconds=$6
shift 6
rc=0 n=0 found=0
top=$(pwd)

for p; do
	name=$(basename "$p" .patch)
	dir=$out/plants/$name
	n=$((n + 1))
	src=$(sed -n 's|^+++ b/||p' "$p")
	if ! plant; then
		rc=1
		continue
	fi
	mkdir "$dir/corpus"
	more=
	if grep -q wal_layout "fuzz/fuzz_$name.c"; then
		more=$out/tests/wal/fakedisk.o
	fi
	grep -q "^#include \"${src#lib/}\"" "fuzz/fuzz_$name.c" || more="$dir/$src $more"
	# shellcheck disable=SC2086 # lists of words
	if ! $cc -w -iquote "$dir/lib" -iquote "$dir" $ld -fsanitize=fuzzer -o "$dir/fuzz" "fuzz/fuzz_$name.c" $more "$lib" $libs \
		2>"$dir/log"; then
		echo "$name: does not build:"
		cat "$dir/log"
		rc=1
		continue
	fi
	set -- "$dir/corpus"
	for c in "$top/fuzz/corpus/$name" "$top/tests/data/fuzz/$name"; do
		[ ! -d "$c" ] || set -- "$@" "$c"
	done
	began=$(date +%s) status=0
	"$dir/fuzz" -seed=1 -max_total_time="$seconds" -error_exitcode=9 -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$dir/" "$@" >"$dir/log" 2>&1 &
	pid=$!
	wait $pid || status=$?
	rm -rf "/dev/shm/vecfs-fuzz-$name-$pid" # fuzz_snapin's
	took=$(($(date +%s) - began))
	if [ "$status" -ne 0 ]; then
		found=$((found + 1))
		echo "$name: found after $took s, $(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/log") executions:" \
			"$(grep -m 1 -oE '(ERROR|runtime error): .*' "$dir/log" | cut -c 1-100)"
	else
		echo "$name: NOT found in $took s"
		rc=1
	fi
done
echo "plants: $n; found: $found"
exit $rc
