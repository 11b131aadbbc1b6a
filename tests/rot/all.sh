#!/bin/sh
# all.sh - every byte of every file, flipped once (rot.h).
#
#	all.sh JOBS PROGRAM[=PATTERN]...
#
# JOBS processes of each program share its flips, with one SEED, in memory where there is a file system for it: what is
# tested is what is read.  Each test's figures are summed over the processes.
set -u
jobs=$1
shift
seed=${SEED:-$(date +%s)}
echo "SEED=$seed"
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
	TMPDIR=/dev/shm
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-rot.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
rc=0

# Lines "WHAT: N flips..., M ..." of all processes, added up number by number where they differ.
sum()
{
	awk '/ flips/ {
		key = $0
		gsub(/[0-9]+ (flips|noticed|refused|in the last)/, "#", key)
		gsub(/in [0-9]+ bytes/, "in B bytes", key)
		if (!(key in n))
			order[++k] = key
		n[key]++
		c = split($0, w, " ")
		for (i = 1; i <= c; i++)
			if (w[i] ~ /^[0-9]+$/ && w[i + 1] !~ /^bytes/)
				add[key, i] += w[i]
		line[key] = $0
	}
	END {
		for (j = 1; j <= k; j++) {
			c = split(line[order[j]], w, " ")
			out = ""
			for (i = 1; i <= c; i++)
				out = out (i > 1 ? " " : "") ((order[j], i) in add ? add[order[j], i] : w[i])
			print "  " out
		}
	}' "$@"
}

for item; do
	prog=${item%%=*} pattern=
	case $item in
	*=*) pattern=${item#*=} ;;
	esac
	began=$(date +%s) i=0 pids=
	rm -f "$work"/log.*
	while [ "$i" -lt "$jobs" ]; do
		mkdir -p "$work/$i"
		(
			[ -z "$pattern" ] || export ROT_TEST="$pattern"
			SEED=$seed ROT_ALL=1 ROT_PART=$i/$jobs TMPDIR=$work/$i exec "$prog" >"$work/log.$i" 2>&1
		) &
		pids="$pids $!"
		i=$((i + 1))
	done
	ok=1
	for p in $pids; do
		wait "$p" || ok=0
	done
	echo "$(basename "$prog"): $(($(date +%s) - began)) s"
	sum "$work"/log.*
	if [ $ok -eq 0 ]; then
		echo "FAILED: $prog"
		grep -hv '^\[' "$work"/log.* | tail -n 40
		grep -h 'FAILED' "$work"/log.*
		rc=1
	fi
done
exit $rc
