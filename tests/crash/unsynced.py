#!/usr/bin/env python3
# unsynced.py - a disk that fails to take one write-back, and works again.
#
#	unsynced.py [--fs ext4|xfs] [--file vectors|sqlite|catalog]
#
# The kernel says once that it could not write a page and takes it for written from then on.  A daemon that
# starts after that, on the same boot, reads the page from memory and syncs it with success.  It must not
# let go of the log for it: after the file system was unmounted the record has to be there.
import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import vx
from power import Disk, run
from vx import Daemon, Failed

# As the vector's bytes, and as meta's: finite floats, not found in anything else.
TEXT = b"Qwr>Zxc=uns>ync=pag>eaa="
assert len(TEXT) == 4 * 6
NAME = "Qwrt-Zxcv-unsynced-page"  # the same, of a collection


def wait_log(d, what, seconds=30):
    until = vx.CLOCK.now + seconds
    while what not in open(d.log, errors="replace").read():
        if vx.CLOCK.now > until:
            raise Failed(f"the daemon does not say '{what}': {d.last_words()}")
        time.sleep(0.05)


def test(work, fs, which):
    disk = Disk(work, fs)
    d = Daemon(work, data=os.path.join(disk.mnt, "data"), args=["--mark-interval=500"])
    try:
        d.start()
        coll = NAME if which == "catalog" else "docs"
        text = NAME if which == "catalog" else TEXT.decode()
        d.must("vec-create", coll)
        vec = struct.unpack("<6f", TEXT) if which == "vectors" else (1, 2, 3, 4, 5, 6)
        meta = TEXT.decode() if which == "sqlite" else "x"
        body = ", ".join(repr(v) for v in vec)
        d.must("vec-put", coll, data='{"id":"early","vector":[1,2,3,4,5,7]}\n')
        d.must("vec-put", coll, data=f'{{"id":"a","vector":[{body}],"meta":{{"v":"{meta}"}}}}\n')
        disk.ctl("fail " + text)
        wait_log(d, "cannot sync")
        want = d.must("vec-get", coll, "a")
        d.kill()
        disk.ctl("fail")
        d.start()
        if d.must("vec-get", coll, "a") != want:
            raise Failed("after kill -9 the record is another")
        time.sleep(1.5)  # some marks
        if d.stop() != 0:
            raise Failed(f"no clean stop: {d.last_words()}")
        # Nothing in memory any more.
        disk.detach()
        disk.attach()
        run("mount", disk.loop, disk.mnt)
        d.start()
        got = d.must("vec-get", coll, "a")
        if got != want:
            raise Failed(f"the record is {got.strip()}, was {want.strip()}")
        if d.stop() != 0:
            raise Failed(f"no clean stop: {d.last_words()}")
        print(f"{fs}, {which}: what could not be synced was taken from the log again")
    finally:
        disk.ctl("fail")
        d.kill()
        disk.end()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    a.add_argument("--file", choices=("vectors", "sqlite", "catalog"), default="vectors")
    a = a.parse_args()
    work = tempfile.mkdtemp(prefix="vecfs-unsynced-")
    try:
        test(work, a.fs, a.file)
    except Failed as e:
        print(f"FAILED: {e}")
        print(subprocess.run(["tail", "-n", "20", os.path.join(work, "log")], capture_output=True, text=True).stdout)
        sys.exit(1)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
