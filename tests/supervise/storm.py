#!/usr/bin/env python3
"""storm.py KILLS - the daemon is killed under programs that must not notice.

Ordinary programs (cat, cp, dd, mv, rm, sh) and descriptors held open for a long time read, write, ask and list in a
mount of a supervised daemon, whose worker is killed with SIGKILL again and again at random moments.  No
operation may fail, but a transaction whose connection went with the worker: that one is told so, and has written nothing.
At the end:

  - every record that was written is there in its last version, none that was removed is,
  - as many records were applied as writes succeeded (slots of the collection): none lost, none twice; a transaction
    of which nobody could say how it ended counts if it is there,
  - every transaction (vec-put --atomic) is there whole, or not at all where it was told so or nobody could say,
  - every answer, listing and export that was read meanwhile was whole and right;
  - vec-fsck, which goes over both collections all the time, and over the data directory at the end, found nothing.

Prints what was done and the time from a worker's death to the next one's service.  SEED= repeats a
choice of moments; VECFS_BIN= is where the programs are, VECFSD= another daemon.
"""
import multiprocessing, os, random, re, shutil, signal, subprocess, sys, tempfile, threading, time

KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
BIN = os.environ.get("VECFS_BIN") or sys.exit("VECFS_BIN is not set: run this through make check-supervise")
DAEMON = os.environ.get("VECFSD", os.path.join(BIN, "vecfsd"))
SEED = int(os.environ.get("SEED", random.randrange(1 << 32)))
FIXED = 3000  # records of the collection that does not change
DIM = 16
BATCH = 400  # records of one inbox file
TIMEOUT = 900 + KILLS * 5  # a machine may be stopped for a while

rng = random.Random(SEED)
# Processes, not threads: a child of a thread would close copies of the others' descriptors, which to a file system
# looks like closing them.
mp = multiprocessing.get_context("fork")
stop = mp.Event()
failures = []  # of this process
done = {}
applied = 0  # records that this process wrote with success into 'work'


def fail(text):
    failures.append(text)
    stop.set()


def count(what, records=0):
    global applied
    done[what] = done.get(what, 0) + 1
    applied += records


def check(cond, text):
    if not cond:
        raise AssertionError(text)


def vector(key, version=0):
    r = random.Random(key * 1000003 + version)
    return [round(r.uniform(-1, 1), 4) for _ in range(DIM)]


def text_of(vec):
    return "[" + ",".join(repr(x) for x in vec) + "]"


def record(name, vec):
    return '{"id":"%s","vector":%s}\n' % (name, text_of(vec))


def numbers_of(line):
    m = re.search(r'"vector":\[([^]]*)\]', line)
    check(m, "no record: %r" % line[:200])
    return [float(x) for x in m.group(1).split(",")]


def same(a, b):
    return len(a) == len(b) and all(abs(x - y) < 1e-5 for x, y in zip(a, b))


def run(*argv, **kw):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    check(p.returncode == 0, "%s: status %d: %s" % (" ".join(argv)[:200], p.returncode, p.stderr.decode()[-300:]))
    return p.stdout.decode()


class Client(mp.Process):
    """Calls turn() until the end; 'last' maps ids to the version that must be there, None: nothing."""

    def __init__(self, number):
        super().__init__(daemon=True)
        self.n = number
        self.rng = random.Random(SEED * 31 + number)
        self.last = {}
        self.i = 0
        self.unknown = []  # transactions of which nobody could say how they ended: {id: version}
        self.into, self.out = mp.Pipe(False)

    def start_up(self):
        pass

    def finish(self):
        pass

    def run(self):
        try:
            self.start_up()
            while not stop.is_set():
                self.i += 1
                self.turn()
            self.finish()
        except Exception as e:  # pylint: disable=broad-except
            fail("%s: %s: %s" % (type(self).__name__, type(e).__name__, e))
        self.out.send((self.last, self.unknown, done, applied, failures))

    def collect(self):
        """What it did, once it has ended."""
        global applied
        self.last, self.unknown, did, records, wrong = self.into.recv()
        for k, n in did.items():
            done[k] = done.get(k, 0) + n
        applied += records
        failures.extend(wrong)
        self.join()


class Overwriter(Client):
    """One record per file, written again and again, read back."""

    def turn(self):
        name = "o%d-%d" % (self.n, self.rng.randrange(50))
        path = WORK + "/vec/" + name + ".json"
        v = vector(self.n, self.i)
        if self.i % 10 == 0:
            run("sh", "-c", "echo '%s' > %s" % (text_of(v), path))
        else:
            with open(path, "w") as f:
                f.write(text_of(v) + "\n")
        count("records written", 1)
        self.last[name] = v
        got = run("cat", path) if self.i % 7 == 0 else open(path).read()
        check(same(numbers_of(got), v), "%s: another version was read back" % name)
        count("records read")


class Halver(Client):
    """A record in two writes, on a descriptor of its own; the worker may die between them."""

    def turn(self):
        name = "h%d-%d" % (self.n, self.i)
        v = vector(self.n, self.i)
        data = text_of(v).encode()
        cut = self.rng.randrange(1, len(data))
        fd = os.open(WORK + "/vec/" + name + ".json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, data[:cut])
        time.sleep(self.rng.random() * 0.05)
        os.write(fd, data[cut:])
        os.close(fd)
        count("records in halves", 1)
        self.last[name] = v


class Appender(Client):
    """Lines into append on one descriptor from the first kill to the last; some in two writes."""

    def start_up(self):
        self.fd = os.open(WORK + "/append", os.O_WRONLY)

    def turn(self):
        names = ["a%d-%d-%d" % (self.n, self.i, k) for k in range(self.rng.randrange(1, 5))]
        vecs = [vector(self.n * 77 + k, self.i) for k in range(len(names))]
        data = "".join(record(n, v) for n, v in zip(names, vecs)).encode()
        cut = self.rng.randrange(len(data)) if self.i % 2 else len(data)
        check(os.write(self.fd, data[:cut]) == cut, "a short write")
        if cut < len(data):
            check(os.write(self.fd, data[cut:]) == len(data) - cut, "a short write")
        self.last.update(zip(names, vecs))
        count("lines appended", len(names))

    def finish(self):
        os.close(self.fd)


class Deleter(Client):
    """Made and removed: each rm succeeds, and once."""

    def turn(self):
        name = "d%d-%d" % (self.n, self.i)
        path = WORK + "/vec/" + name + ".json"
        with open(path, "w") as f:
            f.write(text_of(vector(1, self.i)))
        count("records written", 1)
        os.unlink(path)
        count("records removed")
        self.last[name] = None
        check(not os.path.exists(path), "%s is there after rm" % name)


class Stager(Client):
    """Written under a private name, then renamed, as editors do."""

    def turn(self):
        name = "s%d-%d" % (self.n, self.rng.randrange(30))
        v = vector(self.n, self.i)
        tmp = WORK + "/vec/.%s.%d" % (name, self.i)
        with open(tmp, "w") as f:
            f.write(text_of(v)[:20])
            f.flush()
            f.write(text_of(v)[20:])
        if self.i % 5 == 0:
            run("mv", tmp, WORK + "/vec/" + name + ".json")
        else:
            os.rename(tmp, WORK + "/vec/" + name + ".json")
        count("records renamed", 1)
        self.last[name] = v


class Copier(Client):
    """Whole files through inbox/: streamed by dd in small pieces, copied, or staged and renamed."""

    def turn(self):
        base = "c%d-%d" % (self.n, self.i)
        src = SCRATCH + "/" + base + ".jsonl"
        vecs = {"%s-%d" % (base, k): vector(self.n + k, self.i) for k in range(BATCH)}
        with open(src, "w") as f:
            f.writelines(record(n, v) for n, v in vecs.items())
        dst = WORK + "/inbox/" + base + ".jsonl"
        how = self.i % 3
        if how == 0:
            run("dd", "if=" + src, "of=" + dst, "bs=3000", "status=none")
        elif how == 1:
            run("cp", src, dst)
        else:
            run("cp", src, WORK + "/inbox/." + base)
            run("mv", WORK + "/inbox/." + base, dst)
        receipt = open(WORK + "/done/" + base + ".jsonl.json").read()
        check('"accepted":%d,' % BATCH in receipt, "%s by %d: %s" % (base, how, receipt))
        os.unlink(src)
        self.last.update(vecs)
        count("files through inbox", BATCH)


class Transactor(Client):
    """Transactions of several batches, by vec-put --atomic: as fast as it goes, or so slowly that some worker dies meanwhile.
    Two records are of each of them, so that halves of two would show."""

    def turn(self):
        base = "t%d-%d" % (self.n, self.i)
        names = ["%s-%d" % (base, k) for k in range(self.rng.randrange(30, 120))]
        names = ["t%d-first" % self.n] + names + ["t%d-last" % self.n]
        vecs = {name: vector(self.n * 131 + k, self.i) for k, name in enumerate(names)}
        lines = [record(n, v) for n, v in vecs.items()]
        p = subprocess.Popen([BIN + "/vec-put", "--atomic", "-q", "-b", "10", "work"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        pause = self.rng.random() * 0.08 if self.i % 2 else 0
        try:
            for k in range(0, len(lines), 25):
                p.stdin.write("".join(lines[k:k + 25]).encode())
                p.stdin.flush()
                time.sleep(pause)
        except BrokenPipeError:
            pass  # it has noticed
        try:
            p.stdin.close()
        except BrokenPipeError:
            pass
        p.stdin = None
        _, err = p.communicate()
        err = err.decode()
        check(p.returncode in (0, 75), "vec-put --atomic: status %d: %s" % (p.returncode, err[-300:]))
        if p.returncode == 0:
            count("transactions committed", len(names))
            self.last.update(vecs)
            for u in self.unknown:  # what they have of these two is written over
                u.pop(names[0], None)
                u.pop(names[-1], None)
            self.both(names, vecs)
        elif "outcome is not known" in err:
            count("transactions nobody could say how they ended")
            self.unknown.append(vecs)
        else:
            count("transactions cut off by a death")
            self.last.update({n: None for n in names[1:-1]})
            if not self.unknown and names[0] in self.last:
                self.both(names, self.last)
            check(not os.path.exists(WORK + "/vec/" + names[1] + ".json"), "%s of a transaction that was refused" % names[1])

    def both(self, names, want):
        for n in (names[0], names[-1]):
            check(same(numbers_of(open(WORK + "/vec/" + n + ".json").read()), want[n]), "%s is of another transaction" % n)


class Asker(Client):
    """Questions on one descriptor; the answer is read in two halves."""

    def start_up(self):
        self.fd = os.open(STILL + "/query", os.O_RDWR)

    def turn(self):
        k = self.rng.randrange(FIXED)
        check(os.write(self.fd, text_of(vector(k, 7)).encode()) > 0, "nothing was taken")
        got = os.read(self.fd, 25)
        while True:
            more = os.read(self.fd, 4096)
            if not more:
                break
            got += more
        lines = got.decode().splitlines()
        check(len(lines) == 10, "%d lines: %r" % (len(lines), got[:200]))
        check(lines[0].split("\t")[2] == "f%d" % k, "f%d is not its own neighbour: %r" % (k, lines[0]))
        count("questions on a descriptor")

    def finish(self):
        os.close(self.fd)


class Reader(Client):
    """Listings, near/, exports that take a while."""

    def turn(self):
        how = self.i % 4
        if how == 0:
            names = os.listdir(STILL + "/vec") if self.i % 8 else run("ls", STILL + "/vec").split()
            check(len(names) == FIXED and len(set(names)) == FIXED, "%d names, %d different" % (len(names), len(set(names))))
            count("listings")
        elif how == 1:
            k = self.rng.randrange(FIXED)
            lines = run("cat", STILL + "/near/f%d" % k).splitlines()
            check(len(lines) == 10, "near/f%d: %r" % (k, lines))
            count("near/ID read")
        elif how == 2:
            seen = []
            with open(STILL + "/export.jsonl", "rb", buffering=0) as f:
                rest = b""
                while True:
                    b = f.read(30000)
                    if not b:
                        break
                    rest += b
                    lines = rest.split(b"\n")
                    rest = lines.pop()
                    seen += lines
                    time.sleep(0.002)
            ids = set()
            for line in seen:
                key = re.match(rb'\{"id":"f(\d+)"', line)
                check(key, "no record in the export: %r" % line[:100])
                check(same(numbers_of(line.decode()), vector(int(key.group(1)), 7)), "another vector in the export")
                ids.add(int(key.group(1)))
            check(len(seen) == FIXED and len(ids) == FIXED, "%d records exported, %d different" % (len(seen), len(ids)))
            count("exports")
        else:
            k = self.rng.randrange(FIXED)
            with open(STILL + "/vec/f%d.f32" % k, "rb", buffering=0) as f:
                b = f.read(20)
                time.sleep(0.01)
                while len(b) < DIM * 4:
                    b2 = f.read(1000)
                    check(b2, "a vector of %d bytes" % len(b))
                    b += b2
            count("raw vectors read in halves")


class Checker(Client):
    """vec-fsck of what is served.  A connection that a worker's death cuts off is no finding."""

    def turn(self):
        name = "work" if self.i % 2 else "still"
        p = subprocess.run([BIN + "/vec-fsck", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        check(p.returncode != 4 and not p.stdout, "vec-fsck %s: status %d: %s" % (name, p.returncode, p.stdout.decode()[:400]))
        if p.returncode == 0:
            count("collections verified")
        time.sleep(0.2)

    def finish(self):
        for name in ("work", "still"):
            check(run(BIN + "/vec-fsck", name) == "", "vec-fsck " + name)


CLIENTS = [Checker, Overwriter, Overwriter, Halver, Appender, Appender, Deleter, Stager, Copier, Transactor, Asker, Asker, Reader, Reader]


def worker_of(pid):
    try:
        with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
            kids = f.read().split()
    except OSError:
        return None
    return int(kids[0]) if kids else None


def stat_of(key):
    for line in open(WORK + "/stats"):
        k, _, v = line.strip().partition(" ")
        if k == key:
            return v
    return None


def kill_all(sup):
    killed = 0
    while killed < KILLS and not stop.is_set():
        time.sleep(rng.random() ** 2 * 1.2 + 0.02)
        pid = worker_of(sup)
        if pid is None:
            continue
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            pass
        if sys.stdout.isatty() or killed % 100 == 0:
            print("  %d of %d killed" % (killed, KILLS), flush=True)
    return killed


def settle(c):
    """Transactions whose end nobody knows become what is there; how many records they wrote.  What came after them and wrote over
    two of their records is told apart by the others."""
    written = 0
    for vecs in c.unknown:
        own = [n for n in vecs if not n.endswith(("first", "last"))]
        there = [n for n in own if os.path.exists(WORK + "/vec/" + n + ".json")]
        check(len(there) in (0, len(own)), "%d of %d records of one transaction are there, as %s" % (len(there), len(own), own[0]))
        c.last.update(vecs if there else {n: None for n in own})
        written += len(own) + 2 if there else 0
    return written


def verify(clients):
    known = applied + sum(settle(c) for c in clients)
    for c in clients:
        for name, v in c.last.items():
            path = WORK + "/vec/" + name + ".json"
            if v is None:
                check(not os.path.exists(path), "%s was removed and is there" % name)
            else:
                try:
                    got = open(path).read()
                except OSError as e:
                    raise AssertionError("%s was written and cannot be read: %s" % (name, e)) from e
                check(same(numbers_of(got), v), "%s has another version than the last one" % name)
    live = sum(1 for c in clients for v in c.last.values() if v is not None)
    check(int(stat_of("count")) == live, "%s records, %d were written" % (stat_of("count"), live))
    slots = int(stat_of("slots"))
    check(slots == known, "%d records were applied, %d writes succeeded: %s" % (
        slots, known, "lost" if slots < known else "applied twice"))
    return live, known


def main():
    global WORK, STILL, SCRATCH
    base = tempfile.mkdtemp(prefix="vecfs-storm.")
    mnt, SCRATCH = base + "/mnt", base + "/scratch"
    os.mkdir(mnt)
    os.mkdir(SCRATCH)
    WORK, STILL = mnt + "/work", mnt + "/still"
    os.environ["VECFS_SOCKET"] = base + "/sock"
    log = open(base + "/log", "wb")
    d = subprocess.Popen([DAEMON, "--supervise", "--socket", base + "/sock", "--shards", os.environ.get("VECFS_TEST_SHARDS", "1"),
                          base + "/data", mnt], stdout=log, stderr=log)
    status = 1
    started = time.time()
    print("SEED=%d" % SEED, flush=True)
    try:
        while not os.path.ismount(mnt):
            check(d.poll() is None and time.time() - started < 60, "the daemon did not come up")
            time.sleep(0.01)
        os.mkdir(WORK)
        os.mkdir(STILL)
        # Writers wait while a graph lacks more than 8,192 slots, which each worker has to link anew and has no time for here:
        # with one the storm would go on over writers that stand still.
        with open(WORK + "/config/index", "w") as f:
            f.write("flat\n")
        with open(STILL + "/inbox/all.jsonl", "w") as f:
            f.writelines(record("f%d" % k, vector(k, 7)) for k in range(FIXED))
        clients = [c(i) for i, c in enumerate(CLIENTS)]
        timer = threading.Timer(TIMEOUT, lambda: (fail("no end after %d s" % TIMEOUT), d.kill()))
        timer.daemon = True
        timer.start()
        for c in clients:
            c.start()
        killed = kill_all(d.pid)
        stop.set()
        for c in clients:
            c.collect()
        if not failures:
            live, known = verify(clients)
            took = [float(x) for x in re.findall(r"serves, (\d+) ms after", open(base + "/log", errors="replace").read())]
            took.sort()
            for what in sorted(done):
                print("  %-28s %d" % (what, done[what]))
            print("%d kills in %.0f s: %d records applied for %d that were acknowledged%s, %d there; no operation failed" % (
                killed, time.time() - started, int(stat_of("slots")), applied,
                " and %d that nobody could say of" % (known - applied) if known != applied else "", live))
            if took:
                print("from death to service: median %.0f ms, longest %.0f ms" % (took[len(took) // 2], took[-1]))
            check(len(took) >= min(killed, 1) and d.poll() is None, "the supervisor ended or restarted nothing")
            lost = re.findall(r".*(?:could not be taken over|cannot be carried|damaged).*", open(base + "/log", errors="replace").read())
            check(not lost, "the log says: %s" % lost[:1])
            d.terminate()
            check(d.wait(60) == 0, "the supervisor ended with %s" % d.returncode)
            check(not os.path.ismount(mnt), "the mount is still there")
            check(run(BIN + "/vec-fsck", base + "/data") == "", "vec-fsck at the end")
            status = 0
    except (AssertionError, OSError) as e:
        failures.append(str(e))
    finally:
        if failures and d.poll() is None:
            subprocess.run(["timeout", "5", "cat", mnt + "/.vecfs/error_log"], stdout=sys.stderr, check=False)
        if d.poll() is None:
            d.kill()
            d.wait()
        subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL, check=False)
        for f in failures[:5]:
            print("FAILED: " + f, file=sys.stderr)
        if status:
            sys.stderr.write("".join(open(base + "/log", errors="replace").readlines()[-25:]))
        if os.environ.get("KEEP") and status:
            print("kept: " + base, file=sys.stderr)
        else:
            shutil.rmtree(base, ignore_errors=True)
    sys.exit(status)


main()
