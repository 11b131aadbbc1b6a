#!/usr/bin/env bats
# The tools together, as scripts and cron use them.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helper

@test "text in, question in words, record out" {
	printf '%s\n' "to delete a record use vec-rm" "bread is baked from flour" \
		"the daemon writes a log" >notes.txt
	vec-embed <notes.txt | vec-put "$C"
	[ "$(vec-query "$C" --text 'how do I delete' -k 1 -i | vec-get "$C" | jq -r .text)" = \
		"to delete a record use vec-rm" ]
	[ "$(vec-query "$C" --text 'how do I delete' -k 5 -i | vec-get "$C" | wc -l)" -eq 3 ]
}

@test "scan, filter with jq, put elsewhere" {
	gen_jsonl 100 4 | jq -c '.meta.lang = (if .meta.n % 3 == 0 then "en" else "de" end)' |
		vec-put "$C"
	vec-scan "$C" | jq -c 'select(.meta.lang=="en")' | vec-put "$C-en"
	[ "$(vec-scan -i "$C-en" | wc -l)" -eq 34 ]
	[ "$(vec-scan "$C-en" | jq -r .meta.lang | sort -u)" = en ]
}

@test "find and xargs put files in parallel, with a receipt each" {
	mkdir in
	for i in 1 2 3 4 5 6; do
		gen_jsonl 200 4 "f$i-" >"in/$i.jsonl"
	done
	touch -d '10 minutes ago' in/[1-5].jsonl
	find in -name '*.jsonl' -mmin +1 -print0 |
		xargs -0 -n1 -P2 vec-put "$C" --receipt >receipts
	[ "$(wc -l <receipts)" -eq 5 ]
	[ "$(jq -s 'map(.inserted) | add' receipts)" -eq 1000 ]
	[ "$(vec-scan -i "$C" | wc -l)" -eq 1000 ]
}

@test "many tools at once on one collection" {
	for i in 1 2 3 4 5 6 7 8; do
		gen_jsonl 300 4 "p$i-" | vec-put "$C" &
	done
	for _ in 1 2 3 4; do
		echo '[1,2,3,4]' | vec-query "$C" >/dev/null 2>&1 &
	done
	wait
	[ "$(vec-scan -i "$C" | sort -u | wc -l)" -eq 2400 ]
}

@test "records survive a stop and a kill of the daemon" {
	D=$BATS_TEST_TMPDIR/own
	export VECFS_SOCKET=$D.sock
	start_daemon "$D"
	gen_jsonl 500 4 | vec-put kept
	stop_daemon "$D"
	start_daemon "$D"
	[ "$(vec-scan -i kept | wc -l)" -eq 500 ]
	gen_jsonl 500 4 more | vec-put kept
	stop_daemon "$D" KILL
	start_daemon "$D"
	[ "$(vec-scan -i kept | wc -l)" -eq 1000 ]
	[ "$(vec-scan -w vector kept | head -n 1 | vec-query kept -k 1 -i | wc -l)" -eq 1 ]
	stop_daemon "$D"
	check_log "$D"
}

@test "a put that loses the daemon fails, and what it acknowledged is there" {
	D=$BATS_TEST_TMPDIR/own
	export VECFS_SOCKET=$D.sock
	start_daemon "$D"
	vec-create cut
	mkfifo pipe
	vec-put --receipt -b 50 cut <pipe >receipt 2>err &
	put=$!
	exec 8>pipe
	gen_jsonl 1000 4 >&8
	for _ in $(seq 1 100); do
		[ "$(vec-stat -j cut | jq .count)" -ge 900 ] && break
		sleep 0.1
	done
	stop_daemon "$D" KILL
	gen_jsonl 1000 4 later >&8 || true
	exec 8>&-
	rc=0
	wait "$put" || rc=$?
	[ "$rc" -ne 0 ]
	[ -s err ]
	start_daemon "$D"
	accepted=$(jq .accepted receipt)
	[ "$accepted" -ge 900 ]
	[ "$(vec-stat -j cut | jq .count)" -ge "$accepted" ]
	stop_daemon "$D"
}

@test "a stop answers what was read, and waits for nobody who is silent" {
	D=$BATS_TEST_TMPDIR/own
	export VECFS_SOCKET=$D.sock
	start_daemon "$D"
	vec-create cut
	python3 -c "
import socket, time
s = socket.socket(socket.AF_UNIX)
s.connect('$D.sock')
print('connected', flush=True)
time.sleep(60)" >idle 3>&- &
	idle=$!
	mkfifo pipe
	vec-put --receipt -b 50 cut <pipe >receipt 2>err &
	put=$!
	exec 8>pipe
	gen_jsonl 1000 4 >&8
	for _ in $(seq 1 100); do
		[ -s idle ] && [ "$(vec-stat -j cut | jq .count)" -ge 900 ] && break
		sleep 0.1
	done
	start=$SECONDS
	stop_daemon "$D"
	[ $((SECONDS - start)) -lt 5 ]
	gen_jsonl 1000 4 later >&8 || true
	exec 8>&-
	rc=0
	wait "$put" || rc=$?
	kill "$idle"
	[ "$rc" -eq 75 ]
	grep -q 'vec-put: ' err
	start_daemon "$D"
	[ "$(vec-stat -j cut | jq .count)" -ge "$(jq .accepted receipt)" ]
	stop_daemon "$D"
	check_log "$D"
}
