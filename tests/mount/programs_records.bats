#!/usr/bin/env bats
# Ordinary programs on vec/: what each says when a record is refused, for every reason there is.
#
# The rule is the manual's: a program whose write was refused ends with a status that is not 0, the record is
# what it was, and the reason stands in .vecfs/error_log.  Documented exceptions, of which the log knows as well:
# half a record from a shell's redirection, noticed at close, which shells do not look at; and a file that a
# Python program leaves to be closed by itself.
load helper
load programs

@test "every program writes a record, and one over it" {
	local p n=0
	for p in $over $silent $anew jq; do
		n=$((n + 1))
		"w_$p" "$D/vec/$p.json" <<<'{"vector":[1,2,3],"text":"new"}' >"$BASE/out" 2>&1 || {
			echo "$p failed: $(cat "$BASE/out" "$MNT/.vecfs/error_log")" >&2
			false
		}
		same "$p $(cat "$D/vec/$p.json")" "$p {\"id\":\"$p\",\"vector\":[1,2,3],\"text\":\"new\"}"
		"w_$p" "$D/vec/$p.json" <<<'[3, 2, 1]' >"$BASE/out" 2>&1
		same "$p $(cat "$D/vec/$p.json")" "$p {\"id\":\"$p\",\"vector\":[3,2,1]}"
	done
	same "$(ls "$D/vec" | wc -l)" "$n"
	same "$(ls -A "$D/vec" | wc -l)" "$n"
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "EINVAL: no JSON, a wrong dimension, NaN, a zero vector, for every program" {
	three
	refused '(EINVAL|EBADMSG)' 'not json'
	refused '(EINVAL|EBADMSG)' '[1,2,3,4]'
	refused '(EINVAL|EBADMSG)' '[1,NaN,3]'
	refused '(EINVAL|EBADMSG)' '[0,0,0]'
}

@test "EDQUOT: the collection's quota.max is reached, for every program" {
	three
	echo 1 >"$D/config/quota.max"
	refused EDQUOT '[1,2,4]'
	# Deleting works, and so does everything once there is room.
	rm "$D/vec/c.json"
	echo 0 >"$D/config/quota.max"
	echo '[1,2,4]' >"$D/vec/c.json"
}

@test "EMSGSIZE: a record over the limit" {
	three
	python3 -c 'print("{\"vector\":[1,2,3],\"text\":\"" + "x" * 1048577 + "\"}")' >"$BASE/big"
	fails "Message too long" cp "$BASE/big" "$D/vec/a.json"
	fails "Message too long" dd if="$BASE/big" of="$D/vec/a.json" bs=4M
	fails "Message too long" tee "$D/vec/a.json" <"$BASE/big"
	fails "Message too long" w_python_with "$D/vec/a.json" <"$BASE/big"
	[ "$(grep -c "EMSGSIZE $C/vec/a.json: " "$MNT/.vecfs/error_log")" -ge 4 ]
	same "$(jq -c .vector "$D/vec/a.json")" '[0.1,0.2,0.3]'
}

@test "half a record: cp, tee, dd, sed, python and vim say so; a shell's redirection does not, the log does" {
	three
	local p f=$D/vec/a.json
	# What the reason is: half a record is known as one at close alone.
	for p in cp tee dd dd_fsync rsync_inplace sed awk sort python_with vim; do
		: >"$MNT/.vecfs/error_log"
		run "w_$p" "$f" <<<'[1,2,'
		[ "$status" -ne 0 ] || { echo "$p: status 0"; false; }
		logged "EINVAL $C/vec/a.json: half a record"
		same "$(jq -c .vector "$f")" '[0.1,0.2,0.3]'
	done
	for sh in dash bash; do
		: >"$MNT/.vecfs/error_log"
		run $sh -c 'printf "[1,2," >"$1"' - "$f"
		same "$sh $status" "$sh 0"
		logged "EINVAL $C/vec/a.json: half a record"
	done
	same "$(jq -c .vector "$f")" '[0.1,0.2,0.3]'
}

@test "ENOENT, EACCES, EPERM, ENAMETOOLONG, EXDEV: the status of programs and the reason" {
	three
	fails "No such file" cat "$D/vec/none.json"
	fails "No such file" cp "$D/vec/none.json" "$BASE/"
	fails "No such file" mv "$D/vec/none.json" "$D/vec/b.json"
	fails "No such file" rm "$D/vec/none.json"
	fails "No such file" tar -C "$D" -cf /dev/null vec/none.json
	fails "No such file" sed -n p "$D/vec/none.json"
	fails "No such file" bash -c 'cat <"$1"' - "$D/vec/none.json"
	same "$(grep -vc ENOENT "$MNT/.vecfs/error_log")" 0
	: >"$MNT/.vecfs/error_log"
	for p in cp tee dd; do
		run "w_$p" "$D/stats" <<<1
		[ "$status" -ne 0 ]
	done
	same "$(grep -c "EACCES $C/stats: this file is read-only" "$MNT/.vecfs/error_log")" 3
	: >"$MNT/.vecfs/error_log"
	for p in cp tee dd echo_dash python_with; do
		run "w_$p" "$D/schema.json" <<<'{"metric":"l2"}'
		[ "$status" -ne 0 ]
	done
	[ "$(grep -c "EPERM $C/schema.json: " "$MNT/.vecfs/error_log")" -ge 5 ]
	: >"$MNT/.vecfs/error_log"
	run w_cp "$D/vec/$(printf 'x%.0s' $(seq 1 241)).json" <<<'[1,2,3]'
	[ "$status" -ne 0 ]
	grep -q ENAMETOOLONG "$MNT/.vecfs/error_log"
	: >"$MNT/.vecfs/error_log"
	run -1 python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$D/vec/a.json" "$D/inbox/a.jsonl"
	[[ $output == *"Errno 18"* ]]
	logged "EXDEV $C/vec/a.json: "
}

@test "programs that remove the file first leave none when the new record is refused" {
	three
	local p
	for p in $anew; do
		echo '[1,2,3]' >"$D/vec/r.json"
		run "w_$p" "$D/vec/r.json" <<<'[1,2]'
		[ "$status" -ne 0 ]
		[ ! -e "$D/vec/r.json" ]
	done
}

@test "a large write that the kernel cuts in pieces fails with one errno" {
	three
	python3 -c 'print("{\"vector\":[1,2,3],\"text\":\"" + "x" * 3000000 + "\"}")' >"$BASE/big"
	fails "Message too long" dd if="$BASE/big" of="$D/vec/a.json" bs=4M
	grep -q "EMSGSIZE $C/vec/a.json: " "$MNT/.vecfs/error_log"
	same "$(grep -vc EMSGSIZE "$MNT/.vecfs/error_log")" 0
}

@test "another user is refused by the kernel, which keeps no log" {
	[ "$(id -u)" -eq 0 ] || skip "needs root to be somebody else"
	three
	run setpriv --reuid 65534 --regid 65534 --clear-groups cat "$D/vec/a.json"
	[ "$status" -ne 0 ]
	[[ $output == *"Permission denied"* ]]
	same "$(cat "$MNT/.vecfs/error_log")" ""
}

@test "sed -i, sort -o, vim and awk change a record where it is; a bad change leaves it" {
	three
	echo '{"vector":[1,2,3],"text":"b"}' >"$D/vec/a.json"
	sed -i 's/"b"/"c"/' "$D/vec/a.json"
	same "$(jq -r .text "$D/vec/a.json")" c
	fails "Bad message" sed -i 's/vector/vektor/' "$D/vec/a.json"
	fails "not permitted" sed -i.bak 's/0/1/' "$D/vec/b.json" # a record becomes no private file
	vim -u NONE -es -c '%s/"c"/"d"/' -c 'wq' "$D/vec/a.json"
	same "$(jq -r .text "$D/vec/a.json")" d
	vim -u NONE -es -c 'set writebackup backupcopy=yes' -c '%s/"d"/"e"/' -c 'wq' "$D/vec/a.json"
	same "$(jq -r .text "$D/vec/a.json")" e
	run vim -u NONE -es -c '%s/\[1/[x/' -c 'wq' "$D/vec/a.json"
	[ "$status" -ne 0 ]
	same "$(jq -r .text "$D/vec/a.json")" e
	awk '{ sub(/"e"/, "\"f\""); print }' "$D/vec/a.json" >"$BASE/awk"
	cp "$BASE/awk" "$D/vec/a.json"
	same "$(jq -r .text "$D/vec/a.json")" f
	sort -o "$D/vec/a.json" "$D/vec/a.json"
	same "$(jq -r .text "$D/vec/a.json")" f
	same "$(jq -c .vector "$D/vec/b.json")" '[0.1,0.2,0.4]'
	same "$(ls "$D/vec" | tr '\n' ' ')" "a.json b.json c.json "
}

@test "parallel, xargs, find -exec, grep, head, tail, wc, cmp, diff, md5sum, cpio-like copies read records" {
	seq 1 60 | parallel --will-cite -j4 "echo '[{},2,3]' >$D/vec/p{}.json"
	same "$(ls "$D/vec" | wc -l)" 60
	same "$(find "$D/vec" -name 'p1*.json' -exec jq -c .vector {} + | sort | head -n 1)" '[1,2,3]'
	same "$(find "$D/vec" -type f -print0 | xargs -0 -P4 -n7 cat | wc -l)" 60
	same "$(find "$D/vec" -newermt '-1 hour' -size -2 | grep -c json)" 60
	same "$(grep -c . "$D/vec/p7.json")" 1
	same "$(cat "$D"/vec/*.json | md5sum)" "$(tar -C "$D/vec" -cf - --sort=name . | tar -xOf - | md5sum)"
	cp -r "$D/vec" "$BASE/copy"
	diff -r "$D/vec" "$BASE/copy"
	same "$(du -b --apparent-size "$D/vec/p7.json" | cut -f1)" "$(cat "$D/vec/p7.json" | wc -c)"
	rsync -a --delete "$BASE/copy/" "$D/vec/"
	rm "$BASE/copy/p7.json"
	rsync -a --delete "$BASE/copy/" "$D/vec/"
	[ ! -e "$D/vec/p7.json" ]
	same "$(ls "$D/vec" | wc -l)" 59
	same "$(cat "$MNT/.vecfs/error_log")" ""
}
