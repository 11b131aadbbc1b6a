#!/usr/bin/env python3
# power.py - the power goes, for real, under a daemon that people write to.
#
#	power.py CUTS [--fs ext4|xfs] [--no-sync PATTERN] [--backend NAME] [--shards N] [--fsck-each N]
#
# powerdisk serves a disk with a volatile cache; on a loop device over it lies a file system, and on
# that the data directory.  Writers put, overwrite and delete through the mount and the tools, commit whole files
# by a rename in inbox/ and by vec-put --atomic, make collections and drop them, until the disk dies at a random write or flush, keeping what it likes of its cache.
# Then the daemon is killed, the power comes back, the file system recovers, the daemon starts,
# and what is there is compared with what was acknowledged.  After the first cut and some of the others vec-fsck
# looks at what the disk has before the start, and at what is served after it: neither has any damage.
#
# --no-sync PATTERN plants the bug: fdatasync and fsync of files whose path has PATTERN do nothing
# (nosync.so).  The run is then expected to fail, and says "caught" with status 0 when it does.
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import vx
from vx import Daemon, Failed, Model, record

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.environ.get("VECFS_CRASH_BIN", os.path.join(vx.BIN, "..", "tests", "crash"))
SIZE_MIB = {"ext4": 448, "xfs": 512}


def run(*cmd, check=True):
    p = subprocess.run(cmd, capture_output=True, text=True)
    if check and p.returncode:
        raise Failed(f"{' '.join(cmd)}: {p.stderr.strip() or p.stdout.strip()}")
    return p


class Disk:
    def __init__(self, work, fs, direct=False):
        self.direct = direct  # the loop device keeps no requests waiting for each other
        self.dir = os.path.join(work, "disk")
        self.mnt = os.path.join(work, "fs")
        self.fs = fs
        self.loop = None
        os.makedirs(self.dir)
        os.makedirs(self.mnt)
        self.proc = subprocess.Popen([os.path.join(OUT, "powerdisk"), self.dir, str(SIZE_MIB[fs])],
                                     stdout=subprocess.PIPE)
        if self.proc.stdout.readline() != b"ready\n":
            raise Failed("powerdisk did not start")
        self.attach()
        if fs == "xfs":
            run("mkfs.xfs", "-q", "-f", "-K", self.loop)
        else:
            run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", self.loop)
        run("mount", self.loop, self.mnt)

    def ctl(self, line):
        with open(os.path.join(self.dir, "ctl"), "w") as f:
            f.write(line)

    def status(self):
        with open(os.path.join(self.dir, "ctl")) as f:
            w = f.read().split()
        return w[0] == "off", [int(x) for x in w[1:]]

    def attach(self):
        direct = ["--direct-io=on"] if self.direct else []
        self.loop = run("losetup", "-f", "--show", *direct, os.path.join(self.dir, "disk")).stdout.strip()

    def detach(self):
        until = vx.CLOCK.now + 30
        while self.mnt in open("/proc/self/mounts").read().split():
            p = run("umount", self.mnt, check=False)
            if p.returncode and vx.CLOCK.now > until:
                raise Failed(f"the dead file system cannot be unmounted: {p.stderr.strip()}")
            if p.returncode:
                time.sleep(0.05)
        run("losetup", "-d", self.loop)
        for _ in range(200):
            if not os.path.exists(f"/sys/block/{os.path.basename(self.loop)}/loop/backing_file"):
                break
            time.sleep(0.02)
        self.loop = None

    def power_on(self):
        self.ctl("on")
        self.attach()
        p = run("mount", self.loop, self.mnt, check=False)
        if p.returncode:
            raise Failed(f"the file system does not come back: {p.stderr.strip()}")

    def end(self):
        subprocess.run(["umount", "-l", self.mnt], stderr=subprocess.DEVNULL)
        if self.loop:
            subprocess.run(["losetup", "-d", self.loop], stderr=subprocess.DEVNULL)
        subprocess.run(["umount", "-l", self.dir], stderr=subprocess.DEVNULL)
        self.proc.kill()
        self.proc.wait()


class Writers:
    """Threads that write until the daemon is gone.  Keys belong to one writer each."""

    def __init__(self, d, model, colls, seed):
        self.d, self.model, self.colls = d, model, colls
        self.stop = False
        self.threads = []
        for n, f in enumerate((self.single, self.single, self.stream, self.tool, self.collections, self.atomic,
                               self.inbox)):
            t = threading.Thread(target=self.run, args=(f, n, random.Random(seed * 31 + n)), daemon=True)
            t.start()
            self.threads.append(t)

    def run(self, f, n, rng):
        try:
            while not self.stop and f(n, rng):
                pass
        except (OSError, subprocess.TimeoutExpired):
            pass  # the daemon is gone, and nobody was told how it went

    def single(self, n, rng):
        key = f"s{n}-{rng.randrange(120)}"
        path = f"{self.d.mnt}/docs/vec/{key}.json"
        if rng.randrange(4) == 0:
            if not self.model.present().get(key):
                return True
            v = self.model.begin([key], delete=True)
            os.unlink(path)
        else:
            v = self.model.begin([key])
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                os.write(fd, record(key, v[0]).encode() + b"\n")
            finally:
                os.close(fd)
        self.model.done([key], v)
        return True

    def stream(self, n, rng):
        fd = os.open(f"{self.d.mnt}/docs/append", os.O_WRONLY)
        try:
            for _ in range(20):
                keys = rng.sample([f"a{i}" for i in range(200)], rng.randrange(1, 40))
                v = self.model.begin(keys)
                text = "".join(record(k, x) + "\n" for k, x in zip(keys, v)).encode()
                if os.write(fd, text) != len(text):
                    return False
                self.model.done(keys, v)
        finally:
            os.close(fd)
        return True

    def tool(self, n, rng):
        keys = rng.sample([f"t{i}" for i in range(300)], rng.randrange(1, 120))
        if rng.randrange(4) == 0:
            keys = [k for k in keys if self.model.present().get(k)]
            if not keys:
                return True
            v = self.model.begin(keys, delete=True)
            rc, _, _ = self.d.tool("vec-rm", "-q", "docs", data="".join(k + "\n" for k in keys))
        else:
            v = self.model.begin(keys)
            rc, _, _ = self.d.tool("vec-put", "-q", "docs",
                                   data="".join(record(k, x) + "\n" for k, x in zip(keys, v)))
        if rc == 0:
            self.model.done(keys, v)
        return rc == 0

    def transaction(self, prefix, rng):
        keys = rng.sample([f"{prefix}{i}" for i in range(400)], rng.randrange(2, 400))
        v = self.model.begin(keys)
        self.model.whole(keys, v)
        return keys, v, "".join(record(k, x) + "\n" for k, x in zip(keys, v))

    def atomic(self, n, rng):
        keys, v, text = self.transaction("x", rng)
        rc, _, _ = self.d.tool("vec-put", "-q", "--atomic", "docs", data=text)
        if rc == 0:
            self.model.done(keys, v)
        return rc == 0

    def inbox(self, n, rng):
        """A file that is staged under a hidden name and committed by the rename."""
        keys, v, text = self.transaction("i", rng)
        name = f"{self.d.mnt}/docs/inbox/{rng.randrange(1 << 30)}.jsonl"
        with open(name + ".part", "w") as f:
            f.write(text)
        os.rename(name + ".part", name)
        self.model.done(keys, v)
        return True

    def collections(self, n, rng):
        name = f"c{rng.randrange(6)}"
        key = [name]
        if self.colls.present().get(name) and rng.randrange(2):
            v = self.colls.begin(key, delete=True)
            rc, _, _ = self.d.tool("vec-drop", "-f", name)
        elif not self.colls.present().get(name):
            v = self.colls.begin(key)
            rc, _, _ = self.d.tool("vec-put", "-q", name, data=record("only", 1) + "\n")
        else:
            return True
        if rc == 0:
            self.colls.done(key, v)
        return rc == 0

    def join(self):
        self.stop = True
        for t in self.threads:
            t.join(60)
            if t.is_alive():
                raise Failed("a writer hangs although the daemon is gone")


def check_collections(d, colls):
    """A collection that was made is there, with its record; one whose making nobody was told of may be there
    without it."""
    names = d.must("vec-ls", "-i").split()
    with colls.lock:
        known = set(colls.acked) | set(colls.tried)
        for name in known:
            may = [colls.acked.get(name, 0)] + colls.tried.get(name, [])
            have = 0
            if name in names:
                ids = d.must("vec-scan", "-i", name).split()
                if ids == ["only"]:
                    have = colls.next.get(name, 1)
                elif ids:
                    raise Failed(f"{name}: holds {ids}")
                elif not any(colls.tried.get(name, [])) and not (colls.tried.get(name) and may[0]):
                    raise Failed(f"{name}: empty, though its record was acknowledged")
                else:
                    subprocess.run([f"{vx.BIN}/vec-drop", "-f", name], env=d.env, check=True)
            elif may[0] and 0 not in may:
                raise Failed(f"collection {name} is gone")
            if have and not any(may):
                raise Failed(f"collection {name} came back")
            colls.acked[name] = have
            colls.tried[name] = []


def cycle(disk, d, model, colls, rng, fast, look):
    disk.ctl(f"seed {rng.randrange(1, 1 << 31)}")
    w = Writers(d, model, colls, rng.randrange(1 << 30))
    dice = rng.randrange(10)
    if dice < 6:
        disk.ctl(f"cut write {int(rng.uniform(1, 40) ** 2)}")
    elif dice < 8:
        disk.ctl(f"cut flush {rng.randrange(1, 200)}")
    until = vx.CLOCK.now + rng.uniform(0.05, 0.6 if fast else 1.5)
    off = False
    while vx.CLOCK.now < until and not off and d.proc.poll() is None:
        time.sleep(0.005)
        off, _ = disk.status()
    ended = d.proc.poll() is not None
    if ended and not disk.status()[0]:
        raise Failed(f"the daemon ended by itself: status {d.proc.returncode}: {d.last_words()}")
    disk.ctl("cut now")
    # Now and then the daemon gets to see what a dead disk answers.
    if rng.randrange(3) == 0:
        time.sleep(rng.uniform(0, 0.2))
    d.kill()
    w.join()
    subprocess.run(["umount", "-l", d.mnt], stderr=subprocess.DEVNULL)
    _, (_, _, _, kept, lost, _) = disk.status()
    disk.detach()
    disk.power_on()
    # One start in six loses its power again on the way.
    if rng.randrange(6) == 0:
        disk.ctl(f"cut write {rng.randrange(1, 60)}")
        d.spawn()
        time.sleep(rng.uniform(0.02, 0.4))
        disk.ctl("cut now")
        d.kill()
        subprocess.run(["umount", "-l", d.mnt], stderr=subprocess.DEVNULL)
        disk.detach()
        disk.power_on()
    if look:
        vx.fsck(d, "after the cut")
    d.start()
    vx.verify(d, model, rng=rng)
    check_collections(d, colls)
    if look:
        vx.fsck_served(d, "after recovery")
    return kept, lost


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("cuts", type=int)
    ap.add_argument("--fs", default="ext4", choices=sorted(SIZE_MIB))
    ap.add_argument("--no-sync")
    ap.add_argument("--backend", default="auto")
    ap.add_argument("--shards", default="2")
    ap.add_argument("--mark-interval", default="300")
    ap.add_argument("--fsck-each", type=int, default=4, help="cuts, about")
    ap.add_argument("--fast", action="store_true")
    ap.add_argument("--keep")
    a = ap.parse_args()
    if os.geteuid() or not os.path.exists("/dev/loop-control") or not os.access("/dev/fuse", os.W_OK):
        print("needs root, loop devices and /dev/fuse")
        return 77
    if not shutil.which(f"mkfs.{a.fs}"):
        print(f"needs mkfs.{a.fs}")
        return 77
    rng = random.Random(vx.seed_from_env())
    work = tempfile.mkdtemp(prefix="vecfs-power.")
    env = {}
    backend = a.backend
    if a.no_sync:
        env = {"LD_PRELOAD": os.path.abspath(os.path.join(OUT, "nosync.so")), "NOSYNC": a.no_sync}
        backend = "pwrite"  # the shim sees no request that goes through a ring
    model, colls = Model(), Model()
    disk = d = None
    kept = lost = cuts = looks = 0
    began = time.monotonic()
    try:
        disk = Disk(work, a.fs)
        d = Daemon(work, data=os.path.join(disk.mnt, "data"), mount=True, env=env,
                   args=["--shards", a.shards, "--wal-segment-size", "16M", "--wal-backend", backend,
                         "--mark-interval", a.mark_interval])
        d.start()
        d.must("vec-create", "docs", "--metric", "l2", "--dim", str(vx.DIM), "--spread", a.shards)
        model.acks = 0
        for cuts in range(1, a.cuts + 1):
            # What a planted bug leaves is damage: there the daemon's own answers are to tell.
            look = not a.no_sync and (cuts == 1 or rng.randrange(a.fsck_each) == 0)
            k, n = cycle(disk, d, model, colls, rng, a.fast, look)
            kept, lost, looks = kept + k, lost + n, looks + look
            if cuts % 50 == 0:
                print(f"  {cuts} cuts, {model.acks} acknowledged, {time.monotonic() - began:.0f} s", flush=True)
        rc = d.stop()
        if rc:
            raise Failed(f"status {rc} after SIGTERM")
        if not a.no_sync:
            vx.fsck(d, "at the end")
    except Failed as e:
        if a.no_sync:
            print(f"caught after {cuts} cuts, {model.acks} acknowledged: {e}")
            return 0
        print(f"FAILED at cut {cuts}: {e}")
        if a.keep and disk:
            run("cp", "-a", disk.mnt, a.keep, check=False)
            run("cp", d.log, a.keep, check=False)
        elif d:
            print(d.last_words(30).replace(" | ", "\n"))
        return 1
    finally:
        if d:
            d.kill()
            subprocess.run(["umount", "-l", d.mnt], stderr=subprocess.DEVNULL)
        if disk:
            disk.end()
        shutil.rmtree(work, ignore_errors=True)
    if a.no_sync:
        print(f"NOT caught in {cuts} cuts: the harness is blind")
        return 1
    print(f"{cuts} power cuts on {a.fs}: {model.acks} writes acknowledged, {kept} cached sectors kept and {lost} lost; "
          f"no record lost, none came back, of the transactions under way {model.kept} there and {model.dropped} not, "
          f"every start succeeded, vec-fsck found nothing {2 * looks + 1} times ({time.monotonic() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
