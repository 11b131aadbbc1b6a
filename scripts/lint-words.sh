#!/bin/sh
# lint-words.sh - the tree speaks of the project alone, and is tidy.
#
#	lint-words.sh [ROOT]
#
# No paths of a developer's machine, no package mirrors, no words about how the work is organised, no
# notes to self, no conflict markers, no white space at line ends.  The brackets in the patterns keep
# this file from finding itself.
# shellcheck disable=SC2016 # programs for inner shells
set -eu
cd "${1:-.}"

files()
{
	if git rev-parse --git-dir >/dev/null 2>&1; then
		git ls-files -z --cached --others --exclude-standard
	else
		find . -type f -not -path './build/*' -print0
	fi
}

rc=0
look()
{
	why=$1 pattern=$2
	shift 2
	if files | xargs -0 grep -nIE "$@" -e "$pattern" -- 2>/dev/null | grep -v '^LICENSE:'; then
		echo "^ $why" >&2
		rc=1
	fi
}

look "a path of one machine" '/[w]ork/|/tmp/[o]-[a-z]|/home/[a-z]+/|/root/[a-z]'
look "a package mirror" '(deb|ftp|mirror|snapshot)[a-z.-]*\.debian\.[o]rg'
look "how the work is organised" '(PLATFOR[M]|DESIG[N]|STYL[E]|INTERFAC[E]|PERFORMANC[E])\.md|\b[i]ssue #?[0-9]'
look "a note to self" '\b(T[O]DO|F[I]XME)\b'
look "a conflict marker" '^(<{7}|>{7}) '
files | xargs -0 sh -c 'for f; do case $f in *.md|*.patch|tests/data/*|fuzz/corpus/*) ;; *) printf "%s\0" "$f" ;; esac; done' sh |
	xargs -0 -r grep -nIE '[[:blank:]]+$' -- && {
	echo "^ white space at the end of a line" >&2
	rc=1
}
big=$(files | xargs -0 -r sh -c 'for f; do [ ! -f "$f" ] || find "$f" -size +1000k; done' sh)
if [ -n "$big" ]; then
	echo "$big"
	echo "^ too big for the tree" >&2
	rc=1
fi
exit $rc
