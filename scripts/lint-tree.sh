#!/bin/sh
# lint-tree.sh - nothing is forgotten: every source is built, every document is reachable.
#
#	lint-tree.sh SOURCE... (what make knows, on stdin: one path per line)
#
# Checks that each .c under lib, daemon, cli, tests and fuzz is in a list of some module.mk, that
# relative links in the Markdown files lead somewhere, that every docs/format-*.md is linked from
# docs/format.md, that each fuzzer has a corpus, and that scripts are executable.
set -eu
rc=0
bad()
{
	echo "$*"
	rc=1
}

tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
sort -u >"$tmp"

for f in $(find lib daemon cli tests fuzz bench -name '*.c' 2>/dev/null | sort); do
	grep -qxF "$f" "$tmp" && continue
	# Shared test code and measuring programs have rules of their own beside them.
	grep -qw "$(basename "$f" .c)" "$(dirname "$f")/module.mk" 2>/dev/null || bad "$f: in no module.mk"
done

for md in *.md docs/*.md; do
	[ -f "$md" ] || continue
	dir=$(dirname "$md")
	# [text](target) without a scheme; anchors are cut off.
	grep -oE '\]\([^)#: ]+[^): ]*\)' "$md" | sed 's/^](//; s/)$//; s/#.*//' | sort -u |
		while read -r to; do
			[ -z "$to" ] || [ -e "$dir/$to" ] || echo "$md: link to $to leads nowhere"
		done >"$tmp.links"
	if [ -s "$tmp.links" ]; then
		cat "$tmp.links"
		rc=1
	fi
	rm -f "$tmp.links"
done

for ch in docs/format-*.md; do
	[ -f "$ch" ] || continue
	grep -q "($(basename "$ch")" docs/format.md || bad "$ch: not linked from docs/format.md"
done

for f in fuzz/fuzz_*.c; do
	[ -f "$f" ] || continue
	name=$(basename "$f" .c)
	name=${name#fuzz_}
	ls fuzz/corpus/"$name"/* >/dev/null 2>&1 || bad "$f: no seeds in fuzz/corpus/$name"
done

for f in demo check .ci/run cli/mount.vecfs scripts/*.sh tests/*/*.sh; do
	[ ! -f "$f" ] || [ -x "$f" ] || bad "$f: not executable"
done
exit $rc
