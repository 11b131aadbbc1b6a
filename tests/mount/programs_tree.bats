#!/usr/bin/env bats
# Ordinary programs on the rest of the tree: streams, batches, questions, settings, large listings, rm -r.
load helper
load programs

@test "append: each program's bad line is a failure, the lines before it are in" {
	three
	local p n=0
	for p in cat tee dd python_with echo_dash printf_dash echo_bash sed awk parallel; do
		n=$((n + 1))
		: >"$MNT/.vecfs/error_log"
		run "w_$p" "$D/append" <<<"{\"id\":\"n$n\",\"vector\":[$n,1,2]}
{\"id\":\"bad\",\"vector\":[$n]}"
		[ "$status" -ne 0 ] || { echo "$p: status 0"; false; }
		grep -qE " EINVAL $C/append:[0-9]+: .*dimension" "$MNT/.vecfs/error_log"
		[ -e "$D/vec/n$n.json" ] || { echo "$p: the line before was lost"; false; }
		[ ! -e "$D/vec/bad.json" ]
	done
}

@test "inbox/: each program commits a file, and each is told when it is refused" {
	three
	local p bad='{"id":"bad","vector":[1]}'
	echo abort >"$D/config/on_error"
	for p in cat cp mv install tee dd dd_fsync rsync_inplace sed awk python_with echo_dash printf_dash \
		echo_bash parallel; do
		"w_$p" "$D/inbox/$p.jsonl" <<<"{\"id\":\"$p\",\"vector\":[1,2,3]}" >"$BASE/out" 2>&1 ||
			{ echo "$p: $(cat "$BASE/out")"; false; }
		same "$p $(jq -r .accepted "$D/done/$p.jsonl.json")" "$p 1"
		[ -e "$D/vec/$p.json" ]
		: >"$MNT/.vecfs/error_log"
		run "w_$p" "$D/inbox/$p.jsonl" <<<"$bad"
		[ "$status" -ne 0 ] || { echo "$p: status 0"; false; }
		grep -q " EINVAL $C/inbox/$p.jsonl:1: " "$MNT/.vecfs/error_log"
		same "$(jq -r .accepted "$D/done/$p.jsonl.json")" 0
	done
	# Those that write another name first and rename commit by the rename.
	w_rsync "$D/inbox/rs.jsonl" <<<'{"id":"rs","vector":[1,2,3]}'
	[ -e "$D/vec/rs.json" ]
	run w_rsync "$D/inbox/rs2.jsonl" <<<"$bad"
	[ "$status" -ne 0 ]
	grep -q " EBADMSG $C/inbox/rs2.jsonl:1: " "$MNT/.vecfs/error_log"
	[ ! -e "$D/vec/bad.json" ]
}

@test "settings: each program's bad value is a failure, and the value stays" {
	local p
	for p in cat cp tee dd dd_fsync rsync_inplace sed awk python_with echo_dash printf_dash echo_bash; do
		"w_$p" "$D/config/k" <<<7
		same "$p $(cat "$D/config/k")" "$p 7"
		: >"$MNT/.vecfs/error_log"
		run "w_$p" "$D/config/k" <<<none
		[ "$status" -ne 0 ] || { echo "$p: status 0"; false; }
		grep -q " EINVAL $C/config/k: " "$MNT/.vecfs/error_log"
		same "$p $(cat "$D/config/k")" "$p 7"
	done
}

@test "questions: ENODATA, ENOENT, EOPNOTSUPP, EINVAL, EDQUOT reach the program that asks" {
	three
	fails "No data available" cat "$D/query"
	exec 5>"$D/q/unwritten"
	fails "No data available" cat "$D/q/unwritten"
	exec 5>&-
	mkdir "$D-empty"
	run w_tee "$D-empty/query" <<<'[1,2,3]'
	[ "$status" -ne 0 ]
	grep -q " ENODATA $C-empty/query" "$MNT/.vecfs/error_log"
	run w_tee "$D/query" <<<'{"id":"none"}'
	[ "$status" -ne 0 ]
	grep -q " ENOENT $C/query" "$MNT/.vecfs/error_log"
	fails "No such file" cat "$D/near/none"
	echo cmd:cat >"$D/config/embedder"
	run w_tee "$D/query" <<<'{"text":"words"}'
	[ "$status" -ne 0 ]
	grep -q " EOPNOTSUPP $C/query" "$MNT/.vecfs/error_log"
	local p
	for p in cat cp tee dd sed awk python_with echo_dash echo_bash; do
		: >"$MNT/.vecfs/error_log"
		run "w_$p" "$D/q/named" <<<'{"vector":[1,2]}'
		[ "$status" -ne 0 ] || { echo "$p: status 0"; false; }
		grep -q " EINVAL $C/q/named" "$MNT/.vecfs/error_log"
	done
	same "$(ls "$D/q")" ""
	python3 - "$D/q" <<-'PY'
		import sys
		for i in range(1000):
		    with open("%s/n%d" % (sys.argv[1], i), "w") as f: f.write('{"id":"a"}')
	PY
	: >"$MNT/.vecfs/error_log"
	run w_tee "$D/q/one-more" <<<'{"id":"a"}'
	[ "$status" -ne 0 ]
	logged "EDQUOT $C/q/one-more: "
	rm "$D"/q/n*
	w_tee "$D/q/one-more" <<<'{"id":"a"}'
}

@test "EBUSY: a file that is being ingested is not read and not renamed" {
	python3 - "$D/inbox" <<-'PY'
		import errno, os, sys
		os.chdir(sys.argv[1])
		# (Another program would inherit the descriptor and close it, and a close is a flush.)
		fd = os.open("slow.jsonl", os.O_WRONLY | os.O_CREAT)
		os.write(fd, b'{"id":"a","vector":[1,2,3]}\n')
		for f in lambda: os.open("slow.jsonl", os.O_RDONLY), lambda: os.rename("slow.jsonl", "other.jsonl"):
		    try: f()
		    except OSError as e: assert e.errno == errno.EBUSY, e
		    else: sys.exit(1)
		os.close(fd)
	PY
	same "$(grep -c " EBUSY $C/inbox/" "$MNT/.vecfs/error_log")" 2
	[ -e "$D/vec/a.json" ]
}

@test "ESTALE: what was open when its collection was dropped" {
	mkdir "$D-gone"
	exec 5>"$D-gone/append"
	exec 6>"$D-gone/vec/r.json"
	rmdir "$D-gone"
	fails "Stale file handle" bash -c "echo '{\"id\":\"a\",\"vector\":[1]}' >&5"
	fails "Stale file handle" bash -c "echo '[1]' >&6"
	exec 5>&- 6>&-
	same "$(grep -c ' ESTALE ' "$MNT/.vecfs/error_log")" 2
}

# ls -l asks for every name twice (stat and ACL): all of them in the long form, LS_ALL=1.
@test "ls, ls -l and find on 100,000 records" {
	seq 1 100000 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$BASE/many.jsonl"
	"$VECFS_BIN/vec-put" -q "$D" "$BASE/many.jsonl"
	same "$(ls -U "$D/vec" | wc -l)" 100000
	local stem=r123
	[ -z "${LS_ALL:-}" ] || stem=r
	# shellcheck disable=SC2016
	same "$(find "$D/vec" -name "$stem*.json" -print0 | xargs -0 ls -l | awk '{ n++; if ($5 < 20) small++ } END { print n, small + 0 }')" \
		"$(seq 1 100000 | grep -c "^${stem#r}") 0"
	[ -z "${LS_ALL:-}" ] || same "$(ls -l "$D/vec" | wc -l)" 100001
	same "$(find "$D/vec" -name 'r9999*.json' | sort | head -n 2 | xargs -n1 basename | tr '\n' ' ')" \
		"r9999.json r99990.json "
	same "$(ls -U "$D/vec" | head -n 5 | wc -l)" 5
	same "$(cat "$D/vec/r77777.json")" '{"id":"r77777","vector":[77777,1,2]}'
}

@test "rm -r deletes every record, fails at the files of the tree, and rmdir ends it" {
	seq 1 300 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	echo '{"id":"r1"}' >"$D/q/n"
	run rm -r "$D/vec"
	[ "$status" -ne 0 ]
	[[ $output == *"not permitted"* ]]
	same "$(ls "$D/vec" | wc -l)" 0
	seq 1 300 | sed 's/.*/{"id":"r&","vector":[&,1,2]}/' >"$D/append"
	run rm -rf "$D"
	[ "$status" -ne 0 ]
	same "$(ls "$D/vec" | wc -l)" 0
	same "$(ls "$D/q" | wc -l)" 0
	rmdir "$D"
	[ ! -e "$D" ]
}

@test "a tree is copied out by cp -r and tar, and its records come back by either" {
	three
	cp -r "$D/vec" "$BASE/tree"
	tar -C "$D" -cf "$BASE/tree.tar" vec schema.json stats config
	same "$(tar -xOf "$BASE/tree.tar" vec/a.json)" "$(cat "$D/vec/a.json")"
	same "$(tar -xOf "$BASE/tree.tar" schema.json)" "$(cat "$D/schema.json")"
	mkdir "$D-2"
	cp "$BASE"/tree/*.json "$D-2/vec/"
	mkdir "$D-3"
	tar -C "$D-3" -xf "$BASE/tree.tar" vec/a.json vec/b.json vec/c.json
	for i in 2 3; do
		sort "$D-$i/export.jsonl" >"$BASE/e$i"
		sort "$D/export.jsonl" | cmp - "$BASE/e$i"
	done
}
