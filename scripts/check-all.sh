#!/bin/sh
# check-all.sh - makes several test targets one after the other and ends with the closing line.
#
#	check-all.sh OUT TARGET...        (called by make, which sets MAKE)
#
# A target that fails without a failed test to show for it (something did not even build) counts
# as one failure, so that the closing line never says less than the exit status.
set -u
out=$1
shift

mkdir -p "$out/log"
find "$out" -path '*/log/*' \( -name '*.result' -o -name '*.log' -o -name '*.report' \) \
	-exec rm -f {} +

# Failures so far, skipped tests included where they count.
failures()
{
	find "$out" -name '*.result' -exec cat {} + |
		awk -v ci="${CI:+1}" '{ n += $2 + (ci ? $3 : 0) } END { print n + 0 }'
}

rc=0 n=0 total=$#
for target; do
	n=$((n + 1))
	printf '== %s (%d of %d)\n' "$target" $n $total
	before=$(failures)
	if ! "${MAKE:-make}" --no-print-directory "$target"; then
		rc=1
		if [ "$(failures)" -le "$before" ]; then
			printf '  FAIL  %s: did not run to its end\n' "$target"
			echo '0 1 0' >"$out/log/target-$target.result"
		fi
	fi
done
echo
"${0%/*}/run-tests.sh" -S "$out" || rc=1
exit $rc
