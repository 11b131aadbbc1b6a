# vx.py - what the crash harnesses share: a daemon, clients that note what was acknowledged, a model.
#
# The model knows of every key the last acknowledged version and the versions tried since, whose outcome
# nobody was told.  After a restart each key must be at one of these; which one is then its truth.
import json
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time

BIN = os.environ.get("VECFS_BIN", "build/release/bin")
VECFSD = os.environ.get("VECFSD", f"{BIN}/vecfsd")
DIM = 8


class Failed(Exception):
    pass


class Clock(threading.Thread):
    """Seconds in which this process got to run: whoever stops all of us for a while must not make
    anything look like a hang."""

    STEP = 0.05

    def __init__(self):
        super().__init__(daemon=True)
        self.now = 0.0
        self.start()

    def run(self):
        while True:
            time.sleep(self.STEP)
            self.now += self.STEP


CLOCK = Clock()


def wait(proc, seconds, data=None):
    """communicate(), with seconds of CLOCK."""
    until = CLOCK.now + seconds
    while True:
        try:
            return proc.communicate(data, timeout=5)
        except subprocess.TimeoutExpired:
            data = None
            if CLOCK.now > until:
                proc.kill()
                proc.communicate()
                raise


def seed_from_env():
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"SEED={seed}", flush=True)
    return seed


def vector(key, version):
    """A vector that is a function of key and version, exact in float32 and in decimal."""
    r = random.Random(f"{key}/{version}")
    return [r.randrange(-512, 512) / 8 for _ in range(DIM)]


def record(key, version):
    return json.dumps({"id": key, "vector": vector(key, version), "meta": {"v": version}})


class Model:
    """Version 0: absent.  Thread-safe; each key has one writer."""

    def __init__(self):
        self.lock = threading.Lock()
        self.acked = {}
        self.tried = {}
        self.next = {}
        self.acks = 0
        self.groups = []  # what is tried as one transaction, and what became of such
        self.kept = self.dropped = 0

    def whole(self, keys, versions):
        """What begin() gave is one transaction: whatever happens, all of it or nothing."""
        with self.lock:
            self.groups.append(list(zip(keys, versions)))

    def begin(self, keys, delete=False):
        """The versions that are tried now; a deletion tries version 0."""
        out = []
        with self.lock:
            for k in keys:
                v = 0
                if not delete:
                    v = self.next[k] = self.next.get(k, 0) + 1
                self.tried.setdefault(k, []).append(v)
                out.append(v)
        return out

    def done(self, keys, versions):
        with self.lock:
            for k, v in zip(keys, versions):
                self.acked[k] = v
                self.tried[k] = []
            self.acks += len(keys)
            self.groups = [g for g in self.groups if g[0][0] not in keys]

    def refused(self, keys):
        """Refused before anything was done: nothing was tried."""
        with self.lock:
            for k in keys:
                self.tried[k].pop()

    def compare(self, found):
        """found: key -> version of all that is there.  Raises Failed; else what is there is the truth."""
        with self.lock:
            for g in self.groups:
                n = sum(found.get(k, 0) == v for k, v in g)
                if n not in (0, len(g)):
                    raise Failed(f"{n} of {len(g)} records of one transaction are there, as {g[0][0]}")
                self.kept += n > 0
                self.dropped += n == 0
            self.groups = []
            for k in set(self.acked) | set(self.tried) | set(found):
                have = found.get(k, 0)
                may = [self.acked.get(k, 0)] + self.tried.get(k, [])
                if have not in may:
                    raise Failed(f"{k}: found version {have}, acknowledged {may[0]}, tried {may[1:]}")
                self.acked[k] = have
                self.tried[k] = []

    def present(self):
        with self.lock:
            return {k: v for k, v in self.acked.items() if v}


class Daemon:
    """vecfsd in the foreground of a process of ours.  'wrap' goes before the command."""

    def __init__(self, work, data=None, mount=False, args=(), wrap=(), env=None):
        self.work = work
        self.data = data or os.path.join(work, "data")
        self.mnt = os.path.join(work, "mnt") if mount else None
        self.sock = os.path.join(work, "sock")
        self.log = os.path.join(work, "log")
        self.args = list(args)
        self.wrap = list(wrap)
        self.env = dict(os.environ, VECFS_SOCKET=self.sock, **(env or {}))
        self.proc = None
        if mount:
            os.makedirs(self.mnt, exist_ok=True)

    def spawn(self, wrap=None, env=None, args=()):
        if self.mnt:
            subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
        try:
            os.unlink(self.sock)
        except FileNotFoundError:
            pass
        cmd = (self.wrap if wrap is None else list(wrap)) + [VECFSD, "--socket", self.sock]
        cmd += self.args + list(args)
        cmd += [self.data, self.mnt] if self.mnt else ["--no-mount", self.data]
        with open(self.log, "ab") as log:
            self.proc = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=dict(self.env, **(env or {})), start_new_session=True)

    def ready(self, seconds=120):
        """True once it answers; False when it ended instead."""
        until = CLOCK.now + seconds
        while CLOCK.now < until:
            if self.proc.poll() is not None:
                return False
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(self.sock)
                if not self.mnt or os.path.exists(os.path.join(self.mnt, ".vecfs", "version")):
                    return True
            except OSError:
                pass
            finally:
                s.close()
            time.sleep(0.01)
        raise Failed("the daemon neither came up nor ended")

    def start(self, **kw):
        self.spawn(**kw)
        if not self.ready():
            raise Failed(f"no start: status {self.proc.returncode}: {self.last_words()}")

    def last_words(self, n=6):
        with open(self.log, "rb") as f:
            return b" | ".join(f.read().splitlines()[-n:]).decode(errors="replace")

    def vecfsd_pids(self):
        """The daemon's own process, also behind a wrapper."""
        out = []
        for pid in os.listdir("/proc"):
            if pid.isdigit():
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as f:
                        words = f.read().split(b"\0")
                    if words[0].endswith(b"/vecfsd") and self.data.encode() in words:
                        out.append(int(pid))
                except OSError:
                    pass
        return out

    def stacks(self):
        """What the daemon's threads wait for."""
        out = []
        for pid in self.vecfsd_pids():
            for t in os.listdir(f"/proc/{pid}/task"):
                try:
                    with open(f"/proc/{pid}/task/{t}/comm") as c, open(f"/proc/{pid}/task/{t}/wchan") as w:
                        out.append(c.read().strip() + ":" + w.read().strip())
                except OSError:
                    pass
        return " ".join(sorted(out))

    def kill(self):
        if self.proc and self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.proc:
            self.proc.wait()

    def stop(self, seconds=60):
        """SIGTERM; its exit status."""
        for pid in self.vecfsd_pids() or [self.proc.pid]:
            os.kill(pid, signal.SIGTERM)
        try:
            wait(self.proc, seconds)
            return self.proc.returncode
        except subprocess.TimeoutExpired:
            raise Failed(f"did not stop within {seconds} s of SIGTERM: {self.last_words()}") from None

    def wait_end(self, seconds=60):
        until = CLOCK.now + seconds
        while self.proc.poll() is None and CLOCK.now < until:
            time.sleep(0.02)
        return self.proc.poll()

    def tool(self, *args, data=None, timeout=60):
        """(status, stdout, stderr) of a tool."""
        p = subprocess.Popen([f"{BIN}/{args[0]}", *args[1:]], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)
        out, err = wait(p, timeout, data or "")
        return p.returncode, out, err

    def must(self, *args, **kw):
        try:
            rc, out, err = self.tool(*args, **kw)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(args)}: hangs {self.stacks()}") from None
        if rc:
            raise Failed(f"{' '.join(args)}: status {rc}: {err.strip()} [{self.last_words()}]")
        return out


def fsck(daemon, when, *args):
    """The data directory of a daemon that is not there has nothing but what a crash leaves."""
    rc, out, err = daemon.tool("vec-fsck", *args, daemon.data)
    if rc == 5 and not os.listdir(daemon.data) and "incomplete first start" in err:
        return
    if rc or out:
        raise Failed(f"vec-fsck {when}: status {rc}: {(out + err).strip()[:600]}")


def fsck_served(daemon, when, colls=None):
    """Nor has a collection that is served anything wrong."""
    for name in colls or daemon.must("vec-ls", "-i").split():
        rc, out, err = daemon.tool("vec-fsck", name)
        if rc or out:
            raise Failed(f"vec-fsck {name} {when}: status {rc}: {(out + err).strip()[:600]}")


def versions_of(jsonl):
    """key -> version of what vec-scan printed, each with the vector it must have."""
    found = {}
    for line in jsonl.splitlines():
        r = json.loads(line)
        v = r["meta"]["v"]
        if r["vector"] != vector(r["id"], v):
            raise Failed(f"{r['id']}: version {v} with a vector of another: {r['vector']}")
        if r["id"] in found:
            raise Failed(f"{r['id']} is there twice")
        found[r["id"]] = v
    return found


def verify(daemon, model, coll="docs", sample=3, rng=random):
    """Everything acknowledged is there, by scan, by count, by id and by question."""
    found = versions_of(daemon.must("vec-scan", coll))
    model.compare(found)
    stat = json.loads(daemon.must("vec-stat", "-j", coll))
    if stat["count"] != len(found):
        raise Failed(f"{coll}: count {stat['count']}, but {len(found)} are listed")
    for k in rng.sample(sorted(found), min(sample, len(found))):
        q = json.dumps(vector(k, found[k]))
        top = daemon.must("vec-query", coll, "-k", "1", "-i", data=q + "\n").split()
        if top != [k]:
            raise Failed(f"{coll}: the nearest of {k}'s own vector is {top}")
    return found
