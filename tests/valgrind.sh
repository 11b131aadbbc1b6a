#!/bin/sh
# valgrind.sh - a directory of the programs in which vecfsd runs under valgrind.
#
#	valgrind.sh BIN OUT     BIN's programs in OUT/bin; what valgrind says goes to OUT/log, a file per process
#	valgrind.sh -r OUT      tells what it said; fails when it said anything
#
# Daemons that are killed have no exit status to tell by, hence the files.
set -eu
if [ "$1" = -r ]; then
	said=$(find "$2/log" -type f -size +0)
	[ -z "$said" ] && exit 0
	# shellcheck disable=SC2086 # a list of words
	head -n 60 $said
	exit 1
fi
bin=$(realpath "$1") out=$2
rm -rf "$out"
mkdir -p "$out/bin" "$out/log"
out=$(realpath "$out")
supp=$(realpath "$(dirname "$0")/valgrind.supp")
ln -s "$bin/../tests" "$out/tests"
for f in "$bin"/*; do
	ln -s "$f" "$out/bin/"
done
rm "$out/bin/vecfsd"
cat >"$out/bin/vecfsd" <<EOF
#!/bin/sh
VECFS_SIMD=avx2 exec valgrind -q --trace-children=yes --fair-sched=yes --log-file='$out/log/%p' \\
	--suppressions='$supp' '$bin/vecfsd' "\$@"
EOF
chmod +x "$out/bin/vecfsd"
