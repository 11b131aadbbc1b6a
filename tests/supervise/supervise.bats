#!/usr/bin/env bats
# The daemon may die, the mount stays.  Each test has a supervised daemon of its own; storm.py is the test of all
# of it together.

bats_require_minimum_version 1.5.0
VECFS_BIN=${VECFS_BIN:-$BATS_TEST_DIRNAME/../../build/release/bin}
VECFSD=${VECFSD:-$VECFS_BIN/vecfsd}
export VECFSD

setup() {
	if ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
		[ -z "${CI:-}" ] || { echo "no /dev/fuse for this user" >&2; return 1; }
		skip "no /dev/fuse for this user"
	fi
	B=$(mktemp -d "${TMPDIR:-/tmp}/vecfs-supervise.XXXXXX")
	M=$B/mnt
	mkdir "$M"
	export VECFS_SOCKET=$B/sock
}

teardown() {
	if [ -n "${B:-}" ]; then
		[ ! -s "$B/pid" ] || kill -9 "$(cat "$B/pid")" 2>/dev/null || true
		umount -l "$M" 2>/dev/null || true
		cat "$B/log" || true
		rm -rf "$B"
	fi
}

# up [OPTION...]: a supervised daemon; its pid in $S.
up() {
	"$VECFSD" -d --shards "${VECFS_TEST_SHARDS:-1}" --pid-file "$B/pid" --log-file "$B/log" "$@" \
		"$B/data" "$M" 3>&- 4>&-
	S=$(cat "$B/pid")
}

worker() {
	pgrep -P "$S"
}

# kill_worker: and waits until another one serves.
kill_worker() {
	local n
	n=$(grep -c 'supervise: worker .* serves' "$B/log" || true)
	kill -9 "$(worker)"
	for _ in $(seq 200); do
		[ "$(grep -c 'supervise: worker .* serves' "$B/log")" -le "$n" ] || return 0
		sleep 0.05
	done
	return 1
}

ended() {
	for _ in $(seq 200); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.05
	done
	return 1
}

@test "files held open across a death go on where they were" {
	up
	mkdir "$M/docs"
	echo '[1,2,3]' >"$M/docs/vec/a.json"
	python3 - "$M/docs" "$S" <<'EOF'
import os, signal, subprocess, sys, time
d, sup = sys.argv[1], int(sys.argv[2])
def kill():
    pid = int(open("/proc/%d/task/%d/children" % (sup, sup)).read().split()[0])
    os.kill(pid, signal.SIGKILL)
r = os.open(d + "/vec/a.json", os.O_RDONLY)
head = os.read(r, 10)
w = os.open(d + "/vec/b.json", os.O_WRONLY | os.O_CREAT)
os.write(w, b'[4,')
q = os.open(d + "/query", os.O_RDWR)
os.write(q, b'[1,2,3]')
ap = os.open(d + "/append", os.O_WRONLY)
os.write(ap, b'{"id":"c","vec')
st = os.open(d + "/vec/.staged", os.O_RDWR | os.O_CREAT | os.O_APPEND)
os.write(st, b'[7,8')
i = os.open(d + "/inbox/f.jsonl", os.O_WRONLY | os.O_CREAT)
os.write(i, b'{"id":"e","vector":[1,1,1]}\n{"id":"f","vec')
ls = os.scandir(d + "/vec")
first = next(ls).name
opt = os.open(d + "/stats", os.O_RDONLY)
stats = os.read(opt, 5)
near = os.open(d + "/near/a", os.O_RDONLY)
for _ in range(2):
    kill()
    time.sleep(0.3)
assert head + os.read(r, 100) == b'{"id":"a","vector":[1,2,3]}\n', head
assert os.write(w, b'5,6]') == 4
ans = os.read(q, 1000)
assert b"\ta\t" in ans, ans
assert os.write(ap, b'tor":[1,0,0]}\n') == 14
assert os.write(st, b',9]') == 3
os.close(st)
os.rename(d + "/vec/.staged", d + "/vec/d.json")
assert os.write(i, b'tor":[2,2,2]}\n') == 14
os.close(i)
assert first == "a.json"
assert "a.json" not in [e.name for e in ls]
assert (stats + os.read(opt, 4000)).startswith(b"name docs\n")
assert os.read(near, 100) == b""
for fd in (r, w, q, ap, opt, near):
    os.close(fd)
got = sorted(open(d + "/vec/" + n).read() for n in os.listdir(d + "/vec"))
assert got == ['{"id":"%s","vector":[%s]}\n' % x for x in (("a", "1,2,3"), ("b", "4,5,6"), ("c", "1,0,0"),
    ("d", "7,8,9"), ("e", "1,1,1"), ("f", "2,2,2"))], got
receipt = open(d + "/done/f.jsonl.json").read()
assert '"accepted":2,"inserted":2,"updated":0' in receipt and '"bytes":56,' in receipt, receipt
with open(d + "/inbox/g.jsonl", "w") as f:
    f.write('{"id":"e","vector":[1,1,1]}\n{"id":"f","vector":[2,2,2]}\n')
other = open(d + "/done/g.jsonl.json").read()
sum_of = lambda r: r.split('"xxh3":')[1][:18]
assert sum_of(receipt) == sum_of(other), (receipt, other)
EOF
	run ! grep 'could not be taken over' "$B/log"
}

@test "A written, B over it, A's request comes again: B stays and A is told that it was written" {
	command -v strace >/dev/null || skip "no strace"
	up
	mkdir "$M/docs"
	echo '[1,1]' >"$M/docs/vec/other.json"
	python3 - "$M/docs" "$(worker)" "$VECFS_BIN" <<'EOF'
import os, signal, subprocess, sys, time
d, worker, tools = sys.argv[1:4]

class Writer:
    """A process of its own: forks of one that holds descriptors would flush them."""
    def __init__(self, path, flags, data, then):
        self.go, self.result = os.pipe(), os.pipe()
        if os.fork():
            return
        fd = os.open(path, flags)
        os.write(self.result[1], b"open ")
        os.read(self.go[0], 1)
        os.write(self.result[1], b"%d " % os.write(fd, data))
        os.read(self.go[0], 1)
        if then:
            os.write(fd, then)
        os.close(fd)
        os.write(self.result[1], b"closed ")
        os._exit(0)
    def hear(self):
        return os.read(self.result[0], 100)
    def tell(self):
        os.write(self.go[1], b"!")

a = Writer(d + "/vec/x.json", os.O_WRONLY | os.O_CREAT, b"[1,0]", b"")
half = Writer(d + "/append", os.O_WRONLY, b'{"id":"y","ve', b'ctor":[1,1]}\n')
assert a.hear() == half.hear() == b"open "
# The worker's answers to the kernel are held up: A is committed and nobody knows.
tr = subprocess.Popen(["strace", "-f", "-q", "-P", "/dev/fuse", "-e", "trace=writev", "-e", "inject=writev:delay_enter=10s",
    "-o", "/dev/null", "-p", worker])
time.sleep(1)
a.tell()
half.tell()
def vector():
    return subprocess.run([tools + "/vec-get", "docs", "x"], stdout=subprocess.PIPE).stdout
while b"[1,0]" not in vector():
    time.sleep(0.02)
time.sleep(0.3) # and noted
subprocess.run([tools + "/vec-put", "-q", "docs"], input=b'{"id":"x","vector":[0,1]}\n', check=True)
os.set_blocking(a.result[0], False)
try:
    assert False, "A was answered before the death: %r" % a.hear()
except BlockingIOError:
    pass
os.set_blocking(a.result[0], True)
os.kill(int(worker), signal.SIGKILL)
tr.wait()
assert (a.hear(), half.hear()) == (b"5 ", b"13 ")
a.tell()
half.tell()
assert a.hear() == half.hear() == b"closed "
got = open(d + "/vec/x.json").read()
assert "[0,1]" in got, "B is lost: " + got
# Half a line was taken, once.
assert open(d + "/vec/y.json").read() == '{"id":"y","vector":[1,1]}\n'
stats = open(d + "/stats").read()
assert "\nslots 4\n" in stats, stats
EOF
}

@test "SIGHUP replaces the worker by the program that is installed, and nobody notices" {
	cp "$VECFSD" "$B/vecfsd"
	VECFSD=$B/vecfsd up
	mkdir "$M/docs"
	python3 - "$M/docs" "$S" "$B" <<'EOF'
import os, signal, sys, time
d, sup, b = sys.argv[1], int(sys.argv[2]), sys.argv[3]
kids = "/proc/%d/task/%d/children" % (sup, sup)
old = open(kids).read().split()
fd = os.open(d + "/append", os.O_WRONLY)
os.write(fd, b'{"id":"a","vec')
os.rename(b + "/vecfsd", b + "/old")
open(b + "/vecfsd", "wb").write(open(b + "/old", "rb").read())
os.chmod(b + "/vecfsd", 0o755)
os.kill(sup, signal.SIGHUP)
while open(kids).read().split() in (old, []):
    time.sleep(0.02)
os.write(fd, b'tor":[1,2]}\n')
os.close(fd)
assert open(d + "/vec/a.json").read() == '{"id":"a","vector":[1,2]}\n'
exe = os.readlink("/proc/%s/exe" % open(kids).read().split()[0])
assert exe == b + "/vecfsd", exe
EOF
}

@test "a worker that cannot start for good ends the supervisor, with its reason and without the mount" {
	up
	mkdir "$M/docs"
	run -5 "$VECFSD" -d --no-mount --socket "$B/other" "$B/data"
	echo '{' >"$B/data/node.json"
	kill -9 "$(worker)"
	ended "$S"
	grep -q 'supervise: error: the worker cannot start: .*node.json' "$B/log"
	run ! mountpoint -q "$M"
}

@test "SIGTERM stops both and removes the mount; a killed supervisor takes its worker along" {
	up
	W=$(worker)
	kill "$S"
	ended "$S"
	run ! kill -0 "$W"
	run ! mountpoint -q "$M"
	[ ! -e "$B/pid" ]
	[ ! -e "$VECFS_SOCKET" ]
	up
	W=$(worker)
	kill -9 "$S"
	ended "$W"
	run ! ls "$M"
	up # clears what is left of the mount
	[ -d "$M/.vecfs" ]
}

@test "unmounting by hand ends it" {
	up
	umount "$M"
	ended "$S"
}

@test "without a mount the tools find the next worker on the same socket" {
	"$VECFSD" -d --no-mount --pid-file "$B/pid" --log-file "$B/log" "$B/data" 3>&- 4>&-
	S=$(cat "$B/pid")
	"$VECFS_BIN/vec-create" docs
	for i in 1 2 3; do
		kill -9 "$(worker)"
		echo "{\"id\":\"$i\",\"vector\":[$i]}" | "$VECFS_BIN/vec-put" -q docs
	done
	[ "$("$VECFS_BIN/vec-scan" docs | wc -l)" -eq 3 ]
}

@test "vec-put --atomic hears how it ended, also when the worker is killed during the commit" {
	up
	local i n rc ok=0 lost=0 delay
	echo "SEED=${SEED:=$RANDOM}"
	RANDOM=$SEED
	"$VECFS_BIN/vec-create" docs --dim 3 --metric l2 --spread "${VECFS_TEST_SHARDS:-1}"
	for i in $(seq 30); do
		seq 1 4000 | sed "s/.*/{\"id\":\"$i-&\",\"vector\":[&,$i,1],\"text\":\"$(printf 'y%.0s' {1..200})\"}/" >"$B/in.jsonl"
		"$VECFS_BIN/vec-put" --atomic --receipt docs "$B/in.jsonl" >"$B/out" 2>"$B/err" 3>&- 4>&- &
		delay=$((RANDOM % 70))
		sleep "0.$(printf %03d $delay)"
		kill_worker
		rc=0
		wait $! || rc=$?
		n=$("$VECFS_BIN/vec-stat" -j docs | jq .count)
		case $rc in
		0)
			ok=$((ok + 1))
			[ "$(jq .accepted "$B/out")" -eq 4000 ]
			[ "$(jq .inserted "$B/out")" != null ] || echo "$i" >>"$B/asked"
			;;
		75)
			lost=$((lost + 1))
			grep -q 'nothing was committed' "$B/err"
			[ ! -s "$B/out" ]
			;;
		*)
			cat "$B/err"
			false
			;;
		esac
		[ "$n" -eq $((ok * 4000)) ]
	done
	echo "$ok were committed, of which $(grep -c . "$B/asked" 2>/dev/null || echo 0) had to ask; $lost were not"
}

@test "programs do not notice that the worker is killed again and again" {
	VECFS_BIN=$VECFS_BIN run -0 "$BATS_TEST_DIRNAME/storm.py" "${STORM_KILLS:-10}"
	echo "$output"
	[[ "$output" == *"no operation failed"* ]]
}

@test "raw questions on held descriptors, the worker killed at any time" {
	up
	mkdir "$M/c"
	echo l2 >"$M/c/config/metric"
	awk 'BEGIN { for (i = 0; i < 500; i++) printf "{\"id\":\"%d\",\"vector\":[%d,0,0]}\n", i, i }' >"$M/c/append"
	"$VECFS_BIN/../tests/mount/asks" "$M/c" 500 4000 >"$B/asks" 2>&1 &
	local pid=$! n=0
	while kill -0 "$pid" 2>/dev/null; do
		sleep "0.$((26 + RANDOM % 40))" # later than what is "soon" to the supervisor
		kill_worker
		n=$((n + 1))
	done
	cat "$B/asks"
	wait "$pid"
	echo "$n workers killed"
	[ "$n" -ge 3 ]
	[ "$(grep -c 'worker .* died' "$B/log")" -eq "$(grep -c 'died (Killed)' "$B/log")" ]
}

@test "ten workers that are killed before they serve do not end the mount" {
	up
	mkdir "$M/c"
	echo '{"id":"a","vector":[1,2,3]}' >"$M/c/append"
	local end=$((SECONDS + 60)) in_a_row=0
	# Where the machine is busy one or another is killed too late, and served.
	while [ "$SECONDS" -lt "$end" ] && [ "$in_a_row" -lt 11 ]; do # the first of them had served
		for _ in $(seq 50); do
			pkill -9 -P "$S" || true
			sleep 0.001
		done
		kill -0 "$S"
		in_a_row=$(awk '/serves, / { n = 0 } /worker .* died/ { n++ } END { print n + 0 }' "$B/log")
	done
	echo "$in_a_row in a row before they served"
	[ "$in_a_row" -ge 11 ]
	[ "$(cat "$M/c/vec/a.json")" = '{"id":"a","vector":[1,2,3]}' ]
}

@test "a new worker serves while the request that it was handed first lasts" {
	up
	"$VECFS_BIN/vec-bench" --make 30000 --dim 128 -o "$B/a.fvecs" --queries 2 --query-out "$B/q.fvecs" >/dev/null
	"$VECFS_BIN/vec-create" c --dim 128 --metric l2
	"$VECFS_BIN/vec-put" c "$B/a.fvecs"
	for _ in $(seq 5000); do echo '{"id":"7","k":1,"exact":true}'; done >"$B/many"
	{ cat "$B/many" >"$M/c/query"; touch "$B/answered"; } &
	local asker=$!
	sleep 0.3
	[ ! -e "$B/answered" ]
	kill_worker
	[ ! -e "$B/answered" ]
	timeout 5 cat "$M/c/stats" >/dev/null
	[ ! -e "$B/answered" ]
	wait "$asker"
}
