#!/bin/sh
# plants.sh - shows that syscalls.py notices: plants bugs of order in the daemon, one by one.
#
#	plants.sh OUT "COMPILER FLAGS" "LINK" "LIBRARIES" PATCH...
#
# Each patch has the daemon do two things in the wrong order, in one source of lib/, and says at which places it is then
# to be killed ("Killed at", for syscalls.py --only).  It is applied to a copy; one that does not apply or compile is a failure:
# the source has changed, and the bug must be planted anew.  LINK has the daemon's objects, and LIBRARIES the library, after
# the mutated object, so that its own is not taken.  A script that fails without a kill (status 2) has found nothing.
set -eu
# shellcheck disable=SC1091 # linted by itself
. tests/plant.sh
out=$1 cc=$2 ld=$3 libs=$4
shift 4
here=$(dirname "$0")
rc=0 n=0 found=0

for p; do
	name=$(basename "$p" .patch)
	dir=$out/$name
	n=$((n + 1))
	src=$(sed -n 's|^+++ b/||p' "$p")
	places=$(sed -n 's|^Killed at ||p' "$p")
	if ! plant; then
		rc=1
		continue
	fi
	# shellcheck disable=SC2086 # lists of words
	if ! $cc -w -c -o "$dir/mutant.o" "$dir/$src" 2>"$dir/log" ||
		! $ld -o "$dir/vecfsd" "$dir/mutant.o" $libs 2>>"$dir/log"; then
		echo "$name: does not build:"
		cat "$dir/log"
		rc=1
		continue
	fi
	status=0
	VECFSD=$dir/vecfsd python3 "$here/syscalls.py" --only "$places" >"$dir/log" 2>&1 || status=$?
	if [ "$status" -eq 1 ] && grep -q '^FAILED: killed' "$dir/log"; then
		found=$((found + 1))
		echo "$name: found: $(sed -n 's/^FAILED: //p' "$dir/log" | head -n 1 | cut -c 1-160)"
	else
		echo "$name: NOT found: $(tail -n 1 "$dir/log")"
		rc=1
	fi
done
echo "plants: $n; found: $found"
exit $rc
