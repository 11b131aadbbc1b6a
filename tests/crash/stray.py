#!/usr/bin/env python3
# stray.py - a write of a killed daemon that reaches the disk after its successor has started.
#
#	stray.py [--fs ext4|xfs]
#
# io_uring lets go of a process's ring without waiting for its disk.  powerdisk holds the log's next
# write, the daemon is killed under it, and a new one is started, which must not find the end of the log
# before that write is where it will be: what it acknowledges after that would be written over.
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import vx
from power import Disk
from vx import Daemon, Failed

TEXT = "stray-record"


def put(d, key, wait_s):
    p = subprocess.run([f"{vx.BIN}/vec-put", "docs"], input=vx.record(key, 1).encode() + b"\n", env=d.env,
                       capture_output=True, timeout=wait_s)
    return p.returncode == 0


def ids(d):
    return subprocess.run([f"{vx.BIN}/vec-scan", "-i", "docs"], env=d.env, capture_output=True, text=True,
                          check=True, timeout=30).stdout.split()


def wait_until(what, f, seconds=20):
    until = vx.CLOCK.now + seconds
    while not f():
        if vx.CLOCK.now > until:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def test(work, fs):
    disk = Disk(work, fs, direct=True)
    first = second = third = None
    try:
        first = Daemon(work, data=os.path.join(disk.mnt, "data"), args=["--wal-backend=io_uring"])
        first.start()
        subprocess.run([f"{vx.BIN}/vec-create", "docs"], env=first.env, check=True, timeout=30)
        if not put(first, "before", 30):
            raise Failed("no record can be written")
        disk.ctl("hold " + TEXT)
        writer = subprocess.Popen([f"{vx.BIN}/vec-put", "docs"], stdin=subprocess.PIPE, env=first.env,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        writer.stdin.write(vx.record(TEXT, 1).encode() + b"\n")
        writer.stdin.close()
        wait_until("the log's write", lambda: disk.status()[1][5] == 1)
        first.proc.send_signal(signal.SIGKILL)
        gone = True
        try:
            first.proc.wait(timeout=3)
        except subprocess.TimeoutExpired:
            gone = False  # this kernel waits for the disk by itself
        writer.wait(timeout=30)
        print(f"the killed daemon {'went before' if gone else 'waits for'} its write", flush=True)
        second = Daemon(work, data=first.data, args=first.args)
        second.spawn()
        # Without care it serves by now.
        early = False
        for _ in range(30):
            time.sleep(0.1)
            try:
                early = early or put(second, "after", 5)
            except subprocess.TimeoutExpired:
                pass
        disk.ctl("let go")
        wait_until("the successor", lambda: put(second, "after", 10), 60)
        print(f"acknowledged {'before' if early else 'after'} the stray write had landed", flush=True)
        second.proc.send_signal(signal.SIGKILL)
        second.proc.wait()
        third = Daemon(work, data=first.data, args=first.args)
        third.start()
        found = ids(third)
        if "before" not in found or "after" not in found:
            raise Failed(f"acknowledged and lost: there is only {found}")
        print(f"{fs}: all acknowledged records are there" + (", and the stray one" if TEXT in found else ""))
    finally:
        disk.ctl("let go")
        for d in (first, second, third):
            if d and d.proc and d.proc.poll() is None:
                d.proc.kill()
                d.proc.wait()
        disk.end()


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    a = a.parse_args()
    work = tempfile.mkdtemp(prefix="vecfs-stray-")
    try:
        test(work, a.fs)
    except Failed as e:
        print(f"FAILED: {e}")
        print(subprocess.run(["tail", "-n", "20", os.path.join(work, "log")], capture_output=True, text=True).stdout)
        sys.exit(1)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
