#!/usr/bin/env bats
# Which daemon, which collection; what is said when nobody answers.

# shellcheck disable=SC2030,SC2031 # each test is a subshell
load helper

@test "no daemon: the message says where it looked and what to do" {
	VECFS_SOCKET=$BATS_TEST_TMPDIR/none run vec-ls
	[ "$status" -eq 5 ]
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *"no daemon answers at $BATS_TEST_TMPDIR/none (VECFS_SOCKET)"*vecfsd* ]]
}

@test "a socket that a killed daemon left is told like no daemon" {
	D=$BATS_TEST_TMPDIR/own
	start_daemon "$D"
	stop_daemon "$D" KILL
	[ -S "$D.sock" ]
	VECFS_SOCKET=$D.sock run vec-ls
	[ "$status" -eq 5 ]
	[[ $output == *"no daemon answers"* ]]
	# The next daemon takes the place over.
	start_daemon "$D"
	VECFS_SOCKET=$D.sock vec-ls
	stop_daemon "$D"
	[ ! -e "$D.sock" ]
}

@test "a second daemon does not take a live socket" {
	run vecfsd --no-mount --socket "$DATA.sock" "$BATS_TEST_TMPDIR/other"
	[ "$status" -ne 0 ]
	[[ $output == *"$DATA.sock"* ]]
	vec-ls
}

@test "the socket is its owner's alone" {
	[ "$(stat -c %a "$DATA.sock")" = 600 ]
}

@test "what is no socket and what is no protocol" {
	echo x >plain
	VECFS_SOCKET=$PWD/plain run vec-ls
	[ "$status" -eq 5 ]
	# Garbage on the socket is refused and harms nobody else.
	python3 - <<-END
		import socket
		s = socket.socket(socket.AF_UNIX)
		s.connect("$DATA.sock")
		s.sendall(b"GET / HTTP/1.1\r\n\r\n")
		data = b""
		while True:
		    more = s.recv(4096)
		    if not more:
		        break
		    data += more
		assert data[:2] == b"VX" and b"EBADMSG" in data, data
	END
	vec-ls
}

@test "one connection too many is refused, and told to try again" {
	python3 - <<-END
		import socket, subprocess, time
		socks = []
		for i in range(256):
		    s = socket.socket(socket.AF_UNIX)
		    s.connect("$DATA.sock")
		    socks.append(s)
		for i in range(100):
		    r = subprocess.run(["vec-ls"], capture_output=True, text=True)
		    if r.returncode != 0:
		        break
		    time.sleep(0.05)
		assert r.returncode == 75, r
		assert "try again" in r.stderr, r
		for s in socks:
		    s.close()
		for i in range(100):
		    r = subprocess.run(["vec-ls"], capture_output=True, text=True)
		    if r.returncode == 0:
		        break
		    time.sleep(0.05)
		assert r.returncode == 0, r
	END
}

@test "a path in a mount names daemon and collection" {
	if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
		[ -z "${CI:-}" ] || return 1
		skip "no /dev/fuse for this user"
	fi
	D=$BATS_TEST_TMPDIR/own
	M=$BATS_TEST_TMPDIR/mnt
	mkdir "$M"
	vecfsd --shards "$VECFS_TEST_SHARDS" --socket "$D.sock" "$D" "$M" >>"$D.log" 2>&1 3>&- 4>&- &
	echo $! >"$D.pid"
	for _ in $(seq 1 300); do
		[ -d "$M/.vecfs" ] && break
		sleep 0.1
	done
	unset VECFS_SOCKET
	[ "$(head -n 1 "$M/.vecfs/socket")" = "$D.sock" ]
	echo '{"id":"a","vector":[1,2]}' | vec-put "$M/docs"
	[ "$(cat "$M/docs/ids")" = a ]
	[ "$(vec-scan -i "$M/docs")" = a ]
	[ "$(vec-ls "$M")" = docs ]
	[ "$(vec-stat -j "$M/docs" | jq .count)" -eq 1 ]
	cd "$M"
	[ "$(vec-scan -i docs)" = a ]
	[ "$(vec-scan -i ./docs/)" = a ]
	[ "$(vec-ls .)" = docs ]
	vec-create ./new
	[ -d new ]
	cd docs
	[ "$(echo '[1,2]' | vec-query . -i)" = a ]
	run vec-scan "$M/docs/vec"
	[ "$status" -eq 2 ]
	run vec-scan "$M"
	[ "$status" -eq 2 ]
}
