# SPDX-License-Identifier: Apache-2.0
"""User-mode Linux: a kernel that is an ordinary process. It needs neither root nor virtualisation, and boots in a second."""

import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile

from kernels import LabError, die_with_parent


def memory_directory(size):
    """UML's memory is a file that it maps executable: the file system must allow that and have room."""
    tried = []
    for directory in ("/dev/shm", "/tmp", "/var/tmp"):
        try:
            room = os.statvfs(directory)
            if room.f_bavail * room.f_frsize < size + (64 << 20):
                raise OSError("too small")
            with tempfile.TemporaryFile(dir=directory) as f:
                f.truncate(4096)
                mmap.mmap(f.fileno(), 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
            return directory
        except OSError as e:
            tried.append(f"{directory}: {e}")
    raise LabError("no place for the lab's memory (-m): " + "; ".join(tried))


def a_cpu_of_its_own():
    """One CPU that no other lab of this machine has taken (UML uses one, and is several times faster if it stays there).
    The lock is an abstract socket, which goes away with us."""
    for cpu in sorted(os.sched_getaffinity(0), reverse=True):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            lock.bind(f"\0brass-lab-cpu-{cpu}")
            return cpu, lock
        except OSError:
            lock.close()
    return None, None


class Uml:
    name = "uml"
    consoles = True

    def __init__(self, job, opts, streams):
        self.job = job
        self.log = os.path.join(job, "kernel.log")
        program = shutil.which("linux.uml")
        if not program:
            raise LabError("there is no linux.uml: run scripts/setup (Debian package user-mode-linux)")
        fds = [fd for fd in streams.out if fd is not None]
        con = ["con=null"]
        with open(self.log, "wb") as log:
            con.append(f"con0=null,fd:{log.fileno()}")
            if streams.stdin == "tty":
                con.append(f"con1=fd:{streams.tty_slave},fd:{streams.tty_slave}")
                fds.append(streams.tty_slave)
            for number, fd in zip((2, 3), streams.out):
                if fd is not None:
                    con.append(f"con{number}=null,fd:{fd}")
            fds.append(log.fileno())
            cpu, self.cpu_lock = a_cpu_of_its_own()

            def in_child():
                die_with_parent()
                if cpu is not None:
                    os.sched_setaffinity(0, [cpu])

            self.process = subprocess.Popen(
                [program, f"mem={opts.memory}", "umid=k", f"uml_dir={job}/", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                 f"init={opts.init}", f"BRASSJOB={job}", "quiet", *con],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, start_new_session=True, preexec_fn=in_child,
                env={"TMPDIR": memory_directory(opts.bytes), "PATH": os.environ.get("PATH", os.defpath)})  # fmt: skip

    def kernel_log(self):
        with open(self.log, errors="replace") as f:
            return f.read().replace("\r", "")

    def signal(self, number):
        """The signal's name goes into a file; ctrl-alt-del, by UML's management console, tells its init to look."""
        name = os.path.join(self.job, "signal")
        with open(name + ".new", "w") as f:
            f.write(signal.Signals(number).name[3:] + "\n")
        os.rename(name + ".new", name)
        command = b"cad"
        message = struct.pack("=III512s", 0xCAFEBABE, 2, len(command) + 1, command)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind("")
            s.settimeout(1)
            s.sendto(message, os.path.join(self.job, "k", "mconsole"))

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
