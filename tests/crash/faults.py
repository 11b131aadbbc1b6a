#!/usr/bin/env python3
# faults.py - every call of a script that changes a file fails once, or is the daemon's last.
#
#	faults.py [--kinds EIO,ENOSPC,KILL,FIRST] [--step N] [--first N]
#
# The script starts a daemon on a new data directory, puts, overwrites, deletes and asks, makes and drops a
# collection, lets marks happen, and stops.  It is run once to count its calls (fault.so), then for each of
# them, or each N-th from a random one on:
#
#	EIO	nothing is acknowledged after a failure of the log; the process may end by itself, but does not
#		hang and does not die of anything but its own decision; a clean start has what was acknowledged
#	ENOSPC	the daemon lives, some write may be refused for want of room, and the next one is not
#	KILL	a clean start has what was acknowledged
#	FIRST	kill -9 at each call of the first start of a new directory, before anybody is served: the next one is a
#		start like any other
#
# Whatever it was, vec-fsck finds nothing wrong: not with what the run left, nor with what the next one leaves.
import argparse
import errno
import json
import mmap
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

import vx
from vx import Daemon, Failed, Model, record

OUT = os.environ.get("VECFS_CRASH_BIN", os.path.join(vx.BIN, "..", "tests", "crash"))
STATE_BYTES = 8 * 4 + 32 + 400
WHAT = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "KILL": -1, "FIRST": -1}


class State:
    def __init__(self, path):
        self.path = path
        with open(path, "wb") as f:
            f.write(bytes(STATE_BYTES))
        self.f = open(path, "r+b")
        self.m = mmap.mmap(self.f.fileno(), STATE_BYTES)

    def set(self, at, what):
        self.m[:] = struct.pack("<qqqq", at, what, 0, 0) + bytes(432)

    def calls(self):
        return struct.unpack_from("<q", self.m, 16)[0]

    def fired(self):
        if not struct.unpack_from("<q", self.m, 24)[0]:
            return None
        return (self.m[32:64].split(b"\0")[0].decode(), self.m[64:464].split(b"\0")[0].decode())


class Script:
    def __init__(self, d, model, state, kind):
        self.d, self.model, self.state, self.kind = d, model, state, kind
        self.colls = {}
        self.refused = 0
        self.after_log_failure = 0

    def op(self, keys, delete=False, coll="docs"):
        if self.d.proc.poll() is not None:
            return
        fired = self.state.fired()
        log_failed = self.kind == "EIO" and fired and fired[1].endswith(".wal")
        v = self.model.begin(keys, delete)
        if delete:
            rc, out, err = self.d.tool("vec-rm", "-q", coll, data="".join(k + "\n" for k in keys))
        else:
            rc, out, err = self.d.tool("vec-put", "-q", coll,
                                       data="".join(record(k, x) + "\n" for k, x in zip(keys, v)))
        if rc == 0:
            self.model.done(keys, v)
            if log_failed:
                raise Failed(f"acknowledged after the log had failed at {fired}")
        elif self.kind == "ENOSPC" and not self.log_ended() and self.d.wait_end(0.3) is None:
            if "No space" not in err and "no space" not in err and "space" not in err:
                raise Failed(f"refused, but not for want of room: {err.strip()}")
            self.refused += 1

    def log_ended(self):
        """The log writes only where it has written before: no room there is a failure like any other.  And a sync
        that failed has thrown pages away, whatever its errno."""
        fired = self.state.fired()
        return fired and (fired[1].endswith(".wal") or fired[0] in ("fsync", "fdatasync"))

    def side(self, make):
        """A collection that comes and goes; its outcome is checked by name alone."""
        if self.d.proc.poll() is not None:
            return
        if make:
            rc, _, _ = self.d.tool("vec-put", "-q", "side", data=record("only", 1) + "\n")
        else:
            rc, _, _ = self.d.tool("vec-drop", "-f", "side")
        self.colls["side"] = make if rc == 0 else None

    def run(self):
        d = self.d
        d.spawn(env={"LD_PRELOAD": os.path.abspath(os.path.join(OUT, "fault.so")), "FAULT_DIR": d.data + "/",
                     "FAULT_STATE": self.state.path})
        if not d.ready() or self.kind == "FIRST":
            return
        d.tool("vec-create", "docs", "--metric", "l2", "--dim", str(vx.DIM))
        self.op([f"k{i}" for i in range(40)])
        self.op(["k1", "k2", "k3"])
        self.side(True)
        time.sleep(0.08)  # a mark, on the way
        self.op(["k4", "k5"], delete=True)
        self.op([f"m{i}" for i in range(200)])
        self.side(False)
        self.op(["k4", "m7"])
        d.tool("vec-query", "docs", "-k", "3", data=json.dumps(vx.vector("k7", 1)) + "\n")
        time.sleep(0.06)
        self.op(["m8", "m9"], delete=True)
        self.op(["m8"])


def check(d, model, script):
    vx.fsck(d, "before the next start")
    d.start()
    names = d.must("vec-ls", "-i").split()
    if "docs" in names:
        vx.verify(d, model)
    else:
        model.compare({})
    side = script.colls.get("side")
    if side is True and d.must("vec-scan", "-i", "side").split() != ["only"]:
        raise Failed("a collection lost its record")
    if side is False and "side" in names:
        raise Failed("a dropped collection came back")
    d.must("vec-put", "-q", "docs", data=record("after", 1) + "\n")
    vx.fsck_served(d, "after recovery")
    if d.stop():
        raise Failed(f"status {d.proc.returncode} after SIGTERM")
    vx.fsck(d, "at the end")


def one(work, kind, at, state):
    data = os.path.join(work, "data")
    shutil.rmtree(data, ignore_errors=True)
    open(os.path.join(work, "log"), "w").close()
    d = Daemon(work, data=data, args=["--wal-segment-size", "16M", "--wal-backend", "pwrite",
                                      "--mark-interval", "40", "--shards", "2"])
    model = Model()
    state.set(at, WHAT[kind] if at else 0)
    script = Script(d, model, state, kind)
    try:
        script.run()
        alive = d.proc.poll() is None
        if at == 0 and not alive:
            raise Failed(f"the script does not run: {d.last_words()}")
        if alive and kind == "ENOSPC" and state.fired() and not script.log_ended():
            # Room is back.
            v = model.begin(["room"])
            d.must("vec-put", "-q", "docs", data=record("room", v[0]) + "\n")
            model.done(["room"], v)
        if alive:
            rc = d.stop()
        else:
            rc = d.proc.returncode
        fired = state.fired()
        started = b"ready:" in open(d.log, "rb").read()
        if kind in ("KILL", "FIRST"):
            if fired and rc != -signal.SIGKILL:
                raise Failed(f"status {rc}")
        elif kind == "ENOSPC" and not script.log_ended() and (rc < 0 or (rc and started)):
            raise Failed(f"status {rc} for want of room: {d.last_words()}")
        elif rc not in (0, 1, -signal.SIGABRT):
            raise Failed(f"status {rc}: {d.last_words()}")
        calls = state.calls()
        check(d, model, script)
        return calls, fired, rc
    finally:
        d.kill()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--kinds", default="EIO,ENOSPC,KILL,FIRST")
    ap.add_argument("--step", type=int, default=1)
    ap.add_argument("--first", type=int)
    ap.add_argument("--go-on", action="store_true")
    a = ap.parse_args()
    rng = random.Random(vx.seed_from_env())
    work = tempfile.mkdtemp(prefix="vecfs-faults.")
    state = State(os.path.join(work, "state"))
    began = time.monotonic()
    bad = 0
    try:
        whole, _, _ = one(work, "EIO", 0, state)
        start, _, _ = one(work, "FIRST", 0, state)
        print(f"the script makes {whole} calls that change files, a first start {start}", flush=True)
        if not whole or not start:
            raise Failed("no call was seen: is fault.so where VECFS_CRASH_BIN says?")
        for kind in a.kinds.split(","):
            n = hits = ended = 0
            calls = start if kind == "FIRST" else whole
            # A little further than counted: how the work falls into calls depends on time.
            for at in range(a.first or rng.randrange(1, a.step + 1), calls + calls // 10, a.step):
                try:
                    _, fired, rc = one(work, kind, at, state)
                except Failed as e:
                    print(f"FAILED: {kind} at call {at} of {calls} {state.fired()}: {e}", flush=True)
                    if not a.go_on:
                        return 1
                    bad += 1
                    continue
                n, hits, ended = n + 1, hits + bool(fired), ended + (rc != 0)
            print(f"{kind}: {n} runs, {hits} hit, {ended} ended the daemon; nothing acknowledged was lost, vec-fsck found nothing "
                  f"({time.monotonic() - began:.0f} s)", flush=True)
    except Failed as e:
        print(f"FAILED: without a fault: {e}", flush=True)
        return 1
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
