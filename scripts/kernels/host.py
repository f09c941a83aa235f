# SPDX-License-Identifier: Apache-2.0
"""This machine's own kernel, if it has IPVS and lets us make namespaces."""

import os
import shutil
import signal
import subprocess

from kernels import PR_SET_PDEATHSIG, SANE_PATH, prctl

HOST_PROBE = """
modprobe -qa ip_vs ipip dummy veth bridge
exec unshare -n -m sh -ec '
    ipvsadm -Ln >/dev/null
    ip link set lo up
    for kind in dummy bridge; do ip link add type $kind; done
    ip link add name probe0 type veth peer name probe1
    ip link add name probe2 type ipip local 127.0.0.1 remote any
'
"""


def privileged():
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n", "--"] if shutil.which("sudo") else None


def host_refusal():
    """Why this machine's kernel will not do; None if it will. Probed, not guessed: namespaces can be had where root is not, and
    modules be in the kernel that are not in any list."""
    prefix = privileged()
    if prefix is None:
        return "not root, and no sudo"
    for tool in ("ipvsadm", "ip", "unshare"):
        if not shutil.which(tool, path=":".join(SANE_PATH)):
            return f"no {tool}: run scripts/setup"
    env = dict(os.environ, PATH=":".join(SANE_PATH))
    try:
        done = subprocess.run([*prefix, "sh", "-c", HOST_PROBE], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as e:
        return str(e)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no IPVS in this kernel"])[0]


class Host:
    name = "host"
    consoles = False

    def __init__(self, job, opts, streams):
        self.job = job
        self.control = os.path.join(job, "control")
        os.mkfifo(self.control)
        self.control_fd = os.open(self.control, os.O_RDWR | os.O_CLOEXEC)
        stdin = {"null": subprocess.DEVNULL, "tty": getattr(streams, "tty_slave", None), "pipe": getattr(streams, "in_read", None)}[streams.stdin]
        out = [fd if fd is not None else streams.tty_slave for fd in streams.out]
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        self.process = subprocess.Popen([*privileged(), *unshare, opts.init, "host", job], stdin=stdin, stdout=out[0], stderr=out[1],
                                        start_new_session=True, preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM))  # fmt: skip

    def kernel_log(self):
        return ""

    def signal(self, number):
        os.write(self.control_fd, signal.Signals(number).name[3:].encode() + b"\n")

    def kill(self):
        if self.process.poll() is not None:
            return
        try:
            self.signal(signal.SIGKILL)
            self.process.wait(timeout=3)
        except (OSError, subprocess.TimeoutExpired):
            subprocess.run([*privileged(), "kill", "-KILL", str(self.process.pid)], check=False)
            self.process.wait()
