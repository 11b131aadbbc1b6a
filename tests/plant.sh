# plant.sh - what the scripts that plant bugs share; to be sourced.
# shellcheck shell=sh
# shellcheck disable=SC2154 # name, src, dir, p: the caller's

# The source $src with the patch $p, in $dir/$src: a copy, so that the tree is never touched.  One that does not apply fails: the
# source has changed, and the bug must be planted anew.
plant()
{
	rm -rf "$dir"
	mkdir -p "$dir/$(dirname "$src")"
	cp "$src" "$dir/$src"
	if ! patch -s -p1 --fuzz=0 -d "$dir" <"$p" >"$dir/log" 2>&1; then
		echo "$name: the patch does not apply to $src any more:"
		cat "$dir/log"
		return 1
	fi
}
