#!/usr/bin/env bats
# ready.bats - how the daemon says that it is ready, and that it has stopped.
load ../cli/helper.bash

setup_file() { :; }
teardown_file() { :; }

setup() {
	BASE=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-ready.XXXXXX")
	DATA=$BASE/data
	export VECFS_SOCKET=$DATA.sock
}

teardown() {
	[ ! -s "$BASE/pid" ] || kill "$(cat "$BASE/pid")" 2>/dev/null || true
	stop_daemon "$DATA" 2>/dev/null || true
	rm -rf "$BASE"
}

@test "systemd is told READY=1 once the socket answers, and STOPPING=1" {
	pkg-config --exists libsystemd || skip "built without libsystemd"
	python3 - "$BASE" "$VECFS_BIN/vecfsd" <<-'PY'
		import os, signal, socket, subprocess, sys
		base, prog = sys.argv[1:]
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		s.bind(base + "/notify")
		s.settimeout(60)
		env = dict(os.environ, NOTIFY_SOCKET=base + "/notify")
		p = subprocess.Popen([prog, "--no-mount", base + "/data"], env=env, stderr=subprocess.DEVNULL)
		try:
		    assert b"READY=1" in s.recv(4096)
		    c = socket.socket(socket.AF_UNIX)
		    c.connect(os.environ["VECFS_SOCKET"])
		    c.close()
		    p.send_signal(signal.SIGTERM)
		    assert b"STOPPING=1" in s.recv(4096)
		    assert p.wait(60) == 0
		finally:
		    p.kill()
	PY
}

@test "with -d the status is 0 when it answers, and that of the failure when it does not" {
	vecfsd -d --no-mount --pid-file "$BASE/pid" "$DATA"
	vec-ls
	run -5 vecfsd -d --no-mount --socket "$BASE/other.sock" "$DATA"
	[[ $output == *"in use by another vecfsd"* ]]
	kill "$(cat "$BASE/pid")"
	for _ in $(seq 1 200); do
		[ -e "$BASE/pid" ] || break
		sleep 0.05
	done
	[ ! -e "$BASE/pid" ]
}
