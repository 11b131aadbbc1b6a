# shellcheck shell=bash
# programs.bash - ordinary programs, each writing standard input to a file in its own way.
# shellcheck disable=SC2016 # what dash and bash are to expand

# Writes standard input to the file $1, each in its own way; status as the program has it.
w_cat() { cat >"$1"; }
w_cp() { cat >"$BASE/w" && cp "$BASE/w" "$1"; }
w_cp_remove() { cat >"$BASE/w" && cp --remove-destination "$BASE/w" "$1"; }
w_mv() { cat >"$BASE/w" && mv -f "$BASE/w" "$1"; }
w_install() { cat >"$BASE/w" && install -m644 "$BASE/w" "$1"; }
w_tee() { tee "$1" >/dev/null; }
w_dd() { dd of="$1" bs=1M 2>&1; }
w_dd_fsync() { dd of="$1" bs=4 conv=fsync 2>&1; }
w_rsync() { cat >"$BASE/w.json" && rsync "$BASE/w.json" "$1"; }
w_rsync_inplace() { cat >"$BASE/w.json" && rsync --inplace "$BASE/w.json" "$1"; }
w_tar() {
	rm -rf "$BASE/t" && mkdir "$BASE/t" && cat >"$BASE/t/${1##*/}" &&
		tar -C "$BASE/t" -cf - "${1##*/}" | tar -C "${1%/*}" -xf -
}
w_sed() { sed -n "w $1"; }
w_awk() { awk -v f="$1" '{ print > f } END { exit close(f) != 0 }'; }
w_jq() { jq -c . >"$1"; }
w_sort() { sort -o "$1"; }
w_python() { python3 -c 'import sys; open(sys.argv[1], "w").write(sys.stdin.read())' "$1"; }
w_python_with() {
	python3 -c 'import sys
with open(sys.argv[1], "w") as f: f.write(sys.stdin.read())' "$1"
}
w_python_open() {
	python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
os.write(fd, sys.stdin.buffer.read())
os._exit(0)' "$1"
}
w_echo_dash() { V=$(cat) F=$1 dash -c 'echo "$V" >"$F"'; }
w_printf_dash() { V=$(cat) F=$1 dash -c 'printf "%s\n" "$V" >"$F"'; }
w_echo_bash() { V=$(cat) F=$1 bash -c 'echo "$V" >"$F"'; }
w_vim() {
	cat >"$BASE/w.txt"
	vim -u NONE -es -c "try | write! $1 | catch | cquit | endtry" -c 'qall!' "$BASE/w.txt"
}
w_parallel() { parallel --will-cite -j1 --pipe -N1000000 "cat >$1"; }

# Those that write any text over a file, and those that remove the file first, as they were told to.
over="cat cp tee dd dd_fsync rsync rsync_inplace sed awk sort python_with python_open echo_dash
	printf_dash echo_bash vim parallel"
anew="cp_remove mv install tar"
# A file that Python itself closes when nobody refers to it any more: its error goes nowhere.
silent="python"

# refused ERRNO TEXT [COLLECTION]: each program is refused, says so by its status, and nothing changed.
refused() {
	local p f rc=0 old d=${3:-$D} log
	local c=${d##*/}
	log=${d%/*}/.vecfs/error_log
	for p in $over $silent $anew; do
		f=$d/vec/a.json
		[[ " $anew " != *" $p "* ]] || f=$d/vec/new.json
		old=$(cat "$f" 2>/dev/null) || true
		: >"$log"
		if "w_$p" "$f" <<<"$2" >"$BASE/out" 2>&1 && [ "$p" != "$silent" ]; then
			echo "$p: status 0 for '$2'" >&2
			rc=1
		fi
		if ! grep -qE " $1 $c/vec/" "$log"; then
			echo "$p: no $1 in the log for '$2':" >&2
			cat "$log" "$BASE/out" >&2
			rc=1
		fi
		if [ "$(cat "$f" 2>/dev/null)" != "$old" ]; then
			echo "$p: the record changed: $(cat "$f" 2>&1)" >&2
			rc=1
		fi
	done
	return $rc
}
