#!/usr/bin/env python3
# syscalls.py - the real daemon is killed at every system call that changes a file.
#
#	syscalls.py [--step N] [--jobs N] [--only REGEX] [--go-on] [--list]
#
# A script starts a daemon (--wal-backend=pwrite) on a new data directory, puts, overwrites, deletes, commits a transaction,
# makes and drops a collection, lets marks happen, takes a snapshot, compacts, and stops.  It runs once under strace to list its
# places, a place being the n-th call of one kind by one thread on one file; then once for each of them, --jobs at a time,
# with strace sending SIGKILL as that call begins (-P PATH -e inject=CALL:signal=SIGKILL:when=N).
# After that the daemon is started as always, and what is there is compared with what was acknowledged: nothing is lost,
# nothing that was deleted or dropped is back, a transaction and a snapshot are whole or absent.
#
# strace counts N by path, call and thread: where two threads make the same call on one file, the first of them to get to N
# is killed.  A run in which no thread got there is tried again, TRIES times in all.  faults.py counts over all threads, in
# libc; this sees what the kernel sees.
#
# --only takes the places whose "CALL N FILE", as --list prints them, matches.  VECFSD= is another daemon: plants.sh has some
# that write in a wrong order.  Status 1: something was lost; 2: the script fails without any kill.
import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import vx
from vx import Daemon, Failed, Model, record

OUT = os.environ.get("VECFS_CRASH_BIN", os.path.join(vx.BIN, "..", "tests", "crash"))
CALLS = ("write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,syncfs,truncate,ftruncate,fallocate,"
         "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,openat,creat,"
         "copy_file_range,sendfile,fchmod,chmod,fchmodat")
LINE = re.compile(r"^(\d+) +([a-z_0-9]+)\((.*)$")
TRIES = 3


def strace():
    return ["strace", "-f", "-qq", "-y", "-E", "LD_PRELOAD=" + os.path.abspath(os.path.join(OUT, "steady.so"))]


def calls_of(log, data):
    """[(call, n, file)] of the calls of a run that change a file below 'data', in order; how many calls these are."""
    count, points, total = {}, {}, 0
    with open(log, errors="replace") as f:
        for line in f:
            m = LINE.match(line)
            if not m:
                continue  # the second half of a call, or a signal
            tid, call, args = m.groups()
            paths = [p or q for p, q in re.findall(r'"([^"]*)"|<([^<>]*)>', args)]
            paths = [p for p in paths if p == data or p.startswith(data + "/")]
            if not paths:
                continue
            # Of a rename or a link the old name counts; both are looked at by strace.
            path = paths[0]
            n = count[path, call, tid] = count.get((path, call, tid), 0) + 1
            if call == "openat" and "O_CREAT" not in args:
                continue
            total += 1
            points.setdefault((call, n, os.path.relpath(path, data)))
    return list(points), total


class Script:
    def __init__(self, d, model):
        self.d, self.model = d, model
        self.side = False  # None: nobody was told
        self.side_whole = False  # if it is there, so is its record
        self.snap = None
        self.snap_tried = False

    def ended(self):
        return self.d.proc.poll() is not None

    def op(self, keys, delete=False):
        if self.ended():
            return
        v = self.model.begin(keys, delete)
        if delete:
            rc, _, _ = self.d.tool("vec-rm", "-q", "docs", data="".join(k + "\n" for k in keys))
        else:
            rc, _, _ = self.d.tool("vec-put", "-q", "docs",
                                   data="".join(record(k, x) + "\n" for k, x in zip(keys, v)))
        if rc == 0:
            self.model.done(keys, v)

    def transaction(self, keys):
        if self.ended():
            return
        v = self.model.begin(keys)
        self.model.whole(keys, v)
        rc, _, _ = self.d.tool("vec-put", "-q", "--atomic", "docs",
                               data="".join(record(k, x) + "\n" for k, x in zip(keys, v)))
        if rc == 0:
            self.model.done(keys, v)

    def side_coll(self, make):
        if self.ended():
            return
        if make:
            rc, _, _ = self.d.tool("vec-put", "-q", "side", data=record("only", 1) + "\n")
            self.side_whole = rc == 0
        else:
            rc, _, _ = self.d.tool("vec-drop", "-f", "side")
        self.side = make if rc == 0 else None

    def take(self):
        if self.ended():
            return
        self.snap_tried = True
        before = self.model.present()
        rc, _, _ = self.d.tool("vec-snap", "take", "docs", "s1")
        if rc == 0:
            self.snap = before

    def compact(self):
        if not self.ended():
            self.d.tool("vec-index", "-q", "compact", "docs")

    def pause(self):
        """A mark, on the way."""
        if not self.ended():
            time.sleep(0.1)

    def run(self, wrap):
        d = self.d
        d.spawn(wrap=wrap)
        if not d.ready():
            return
        d.tool("vec-create", "docs", "--metric", "l2", "--dim", str(vx.DIM))
        self.op([f"k{i}" for i in range(30)])
        self.op(["k1", "k2", "k3"])
        self.transaction([f"x{i}" for i in range(20)] + ["k0"])
        self.side_coll(True)
        self.pause()
        self.op(["k4", "k5"], delete=True)
        self.take()
        self.op([f"m{i}" for i in range(30)] + ["k6"])
        self.side_coll(False)
        self.compact()
        self.op(["k4", "m7"])
        self.pause()
        self.op(["m8", "m9"], delete=True)
        self.op(["m8"])


def check(d, model, script):
    d.start()
    names = d.must("vec-ls", "-i").split()
    if "docs" in names:
        vx.verify(d, model)
    else:
        model.compare({})
    if script.side is True and "side" not in names:
        raise Failed("a collection is gone")
    if script.side_whole and "side" in names and d.must("vec-scan", "-i", "side").split() != ["only"]:
        raise Failed("a collection lost its record")
    if script.side is False and "side" in names:
        raise Failed("a dropped collection came back")
    if [n for n in names if n not in ("docs", "side")]:
        raise Failed(f"collections that nobody made: {names}")
    rc, out, err = d.tool("vec-snap", "-j", "list")  # status 1: there are none
    if rc not in (0, 1) or err:
        raise Failed(f"vec-snap list: status {rc}: {err}")
    snaps = [json.loads(x)["name"] for x in out.splitlines()]
    if snaps not in ([], ["s1"]) or (snaps and not script.snap_tried):
        raise Failed(f"snapshots that nobody took: {snaps}")
    if script.snap is not None and not snaps:
        raise Failed("a snapshot is gone")
    if snaps:
        d.must("vec-snap", "verify", "docs", "s1")
        d.must("vec-snap", "restore", "docs", "s1", "back")
        have = vx.versions_of(d.must("vec-scan", "back"))
        if script.snap is not None and have != script.snap:
            raise Failed(f"a snapshot holds {have}, not {script.snap}")
    # What is written from now on is there as well: no entry has the index of one that the store had before.
    keys = ["after", "k0"]
    v = model.begin(keys)
    d.must("vec-put", "-q", "docs", data="".join(record(k, x) + "\n" for k, x in zip(keys, v)))
    model.done(keys, v)
    vx.verify(d, model)
    if d.stop():
        raise Failed(f"status {d.proc.returncode} after SIGTERM")
    # Nothing half made is left.
    for base, dirs, files in os.walk(d.data):
        for n in dirs + files:
            if ".dropped" in n or ".new" in n or n.endswith(".tmp") and not n.startswith("spare-"):
                raise Failed(f"left over: {os.path.join(base, n)}")


def one(work, wrap):
    """Whether the daemon was killed."""
    data = os.path.join(work, "data")
    shutil.rmtree(data, ignore_errors=True)
    open(os.path.join(work, "log"), "w").close()
    d = Daemon(work, data=data, args=["--wal-segment-size", "16M", "--wal-backend", "pwrite",
                                      "--mark-interval", "40", "--shards", "1"])
    model = Model()
    script = Script(d, model)
    try:
        script.run(wrap)
        rc = d.proc.returncode if script.ended() else d.stop()
        if rc not in (0, -signal.SIGKILL, 128 + signal.SIGKILL):
            raise Failed(f"status {rc}: {d.last_words()}")
        check(d, model, script)
        return rc != 0
    finally:
        d.kill()


def place(p):
    return "{} {} {}".format(*p)


class Runs:
    """One list of places, which the threads of all jobs take from."""

    def __init__(self, places, go_on):
        self.lock = threading.Lock()
        self.left = list(reversed(places))
        self.go_on = go_on
        self.runs = self.killed = self.bad = 0

    def next(self):
        with self.lock:
            return self.left.pop() if self.left and (self.go_on or not self.bad) else None

    def note(self, killed=False, failed=None):
        with self.lock:
            self.runs += 1
            self.killed += killed
            self.bad += failed is not None
            if failed:
                print(f"FAILED: {failed}", flush=True)

    def job(self, work):
        data = os.path.join(work, "data")
        while (p := self.next()) is not None:
            call, n, name = p
            wrap = strace() + ["-o", "/dev/null", "-P", os.path.normpath(os.path.join(data, name)), "-e", "trace=" + call,
                               "-e", f"inject={call}:signal=SIGKILL:when={n}"]
            for _ in range(TRIES):
                killed = False
                try:
                    killed = one(work, wrap)
                    self.note(killed)
                except (Failed, subprocess.TimeoutExpired) as e:
                    self.note(failed=f"killed at {place(p)}: {e}")
                    break
                if killed:
                    break


def able():
    """None, or why strace cannot do it."""
    try:
        p = subprocess.run(["strace", "-f", "-qq", "-e", "inject=write:signal=SIGKILL:when=100", "true"],
                           capture_output=True, text=True)
        return None if p.returncode == 0 else p.stderr.strip()
    except OSError as e:
        return str(e)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--step", type=int, default=1)
    ap.add_argument("--jobs", type=int, default=1)
    ap.add_argument("--only", default="")
    ap.add_argument("--go-on", action="store_true")
    ap.add_argument("--list", action="store_true")
    a = ap.parse_args()
    why = able()
    if why is not None:
        print(f"needs strace that may trace: {why}")
        return 77
    rng = random.Random(vx.seed_from_env())
    if not os.environ.get("TMPDIR") and os.access("/dev/shm", os.W_OK):
        tempfile.tempdir = "/dev/shm"  # what a killed process wrote is there, on any file system
    work = os.path.realpath(tempfile.mkdtemp(prefix="vecfs-syscalls."))
    began = time.monotonic()
    try:
        log = os.path.join(work, "strace")
        jobs = [os.path.join(work, str(i)) for i in range(a.jobs)]
        for j in jobs:
            os.mkdir(j)
        try:
            if one(jobs[0], strace() + ["-o", log, "-e", "trace=" + CALLS]):
                raise Failed("the daemon was killed")
        except Failed as e:
            print(f"the script fails without a kill: {e}", flush=True)
            return 2
        places, total = calls_of(log, os.path.join(jobs[0], "data"))
        kinds = sorted({c for c, _, _ in places})
        print(f"the script makes {total} calls that change files, at {len(places)} places: {' '.join(kinds)}", flush=True)
        places = [p for p in places if re.search(a.only, place(p))][rng.randrange(a.step)::a.step]
        if a.list:
            for p in places:
                print("  " + place(p))
            return 0
        runs = Runs(places, a.go_on)
        threads = [threading.Thread(target=runs.job, args=(j,)) for j in jobs]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    end = f"{runs.bad} FAILED" if runs.bad else "nothing acknowledged was lost, nothing came back"
    print(f"{len(places)} places, {runs.runs} runs, {runs.killed} killed; {end} ({time.monotonic() - began:.0f} s)", flush=True)
    return runs.bad != 0 or not places or (runs.bad == 0 and runs.killed < len(places) // 2)


if __name__ == "__main__":
    sys.exit(main())
