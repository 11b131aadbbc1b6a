#!/bin/sh
# run-tests.sh - runs tests, one line each, and sums what they say.
#
#	run-tests.sh [-j N] [-l DIR] [-p LABEL] [-t SECONDS] ITEM...
#	run-tests.sh -S DIR        the closing line for all results under DIR
#
# An ITEM is a cmocka program, a bats file (*.bats), or NAME=COMMAND: one test that passes when the
# shell command does (status 77: skipped, with the last line of its output as the reason).
# The whole output of an item goes to DIR/LABEL-NAME.log; a failure shows its end.  The counts go
# to DIR/LABEL-NAME.result as "passed failed skipped", where -S finds them.
#
# A program that dies, or that ends without having run all that it announced, has failed at least
# once.  An item that exceeds SECONDS (default 900) is stopped and has failed.  With CI set in the
# environment a skipped test has failed: a machine that cannot run a test proves nothing by it.
set -u

usage()
{
	sed -n '2,/^set/s/^#\( \|$\)//p' "$0" >&2
	exit 2
}

jobs=1 dir=build/log label='' limit=900
one='' sum=''
while getopts j:l:p:t:S:1: opt; do
	case $opt in
	j) jobs=$OPTARG ;;
	l) dir=$OPTARG ;;
	p) label=$OPTARG ;;
	t) limit=$OPTARG ;;
	S) sum=$OPTARG ;;
	1) one=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))

# --- the closing line -----------------------------------------------------------------------
if [ -n "$sum" ]; then
	find "$sum" -name '*.result' -exec cat {} + | awk -v ci="${CI:+1}" '
		{ p += $1; f += $2; s += $3 }
		END {
			if (s)
				printf "%d skipped%s\n", s, ci ? " (counted as failed)" : ""
			if (ci)
				f += s
			if (p + f == 0)
				f = 1 # nothing ran at all
			printf "%d passed, %d failed\n", p, f
			exit f != 0
		}'
	exit
fi
[ $# -gt 0 ] || [ -n "$one" ] || usage

# --- many items: this script again, one process each -------------------------------------------
if [ -z "$one" ]; then
	mkdir -p "$dir" || exit 1
	printf '%s\0' "$@" |
		xargs -0 -P "$jobs" -I '{}' "$0" -l "$dir" -p "$label" -t "$limit" -1 '{}'
	exit
fi

# --- one item ----------------------------------------------------------------------------------
case $one in
*=*) name=${one%%=*} kind=command ;; # before the next: the command may be bats with a file
*.bats) name=${one##*/tests/} name=${name#tests/} name=${name%.bats} kind=bats ;;
*) name=${one##*/tests/} name=${name#tests/} kind=cmocka ;;
esac
base=$dir/${label:+$label-}$(echo "$name" | tr '/ ' '--')
log=$base.log
began=$(date +%s%N)
case $kind in
bats) timeout -k 10 "$limit" bats --tap "$one" >"$log" 2>&1 </dev/null ;;
cmocka) CMOCKA_MESSAGE_OUTPUT=tap timeout -k 10 "$limit" "$one" >"$log" 2>&1 </dev/null ;;
command) timeout -k 10 "$limit" sh -c "${one#*=}" >"$log" 2>&1 </dev/null ;;
esac
rc=$?
spent=$((($(date +%s%N) - began) / 100000000))

if [ $kind = command ]; then
	case $rc in
	0) set -- 1 0 0 ;;
	77) set -- 0 0 1 ;;
	*) set -- 0 1 0 ;;
	esac
else
	# TAP, tolerant of a test that printed half a line before its verdict.
	# shellcheck disable=SC2046 # three numbers
	set -- $(awk -v rc=$rc '
		/^#/ { next }
		/^1\.\.[0-9]+/ { sub(/^1\.\./, ""); plan += $1; next }
		/ok [0-9]+ .*# *(skip|SKIP)/ { skip++; next }
		/not ok [0-9]+/ { bad++; next }
		/ok [0-9]+/ { good++ }
		END {
			if (plan > good + bad + skip)
				bad = plan - good - skip
			if (rc && !bad)
				bad = 1
			print good + 0, bad + 0, skip + 0
		}' "$log")
	# A program with no test at all proves nothing.
	[ "$1$2$3" != 000 ] || set -- 0 1 0
fi
echo "$1 $2 $3" >"$base.result"

verdict=ok
[ "$3" = 0 ] || verdict=skip
[ "$2" = 0 ] || verdict=FAIL
[ -z "${CI:-}" ] || [ "$3" = 0 ] || verdict=FAIL
# One write per report: several of these processes share the output.
report()
{
	printf '  %-4s  %-44s %4d passed%s%s  %d.%d s\n' "$verdict" "${label:+$label: }$name" "$1" \
		"$([ "$2" = 0 ] || echo ", $2 failed")" "$([ "$3" = 0 ] || echo ", $3 skipped")" \
		$((spent / 10)) $((spent % 10))
	if [ "$3" != 0 ]; then
		if [ $kind = command ]; then
			tail -n 1 "$log" | sed 's/^/        /'
		else
			grep -i 'ok [0-9].*# *skip' "$log" | sed 's/^/        /' | head -n 20
		fi
	fi
	if [ "$2" != 0 ]; then
		[ $rc -lt 124 ] || echo "        status $rc$([ $rc != 124 ] || echo ": stopped after $limit s")"
		if [ $kind = command ]; then
			tail -n 40 "$log" | sed 's/^/        /'
		else
			awk '/not ok [0-9]/ { n = 25 } n-- > 0 && !/^ok / { print "        " $0 }' "$log" |
				head -n 120
			# Where it died, or what a sanitizer said.
			if [ $rc -gt 123 ] || grep -q -e 'Sanitizer' "$log"; then
				tail -n 60 "$log" | sed 's/^/        /'
			fi
		fi
		echo "        (all of it: $log)"
	fi
}
report "$@" >"$base.report"
cat "$base.report"
[ $verdict != FAIL ]
