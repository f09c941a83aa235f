# SPDX-License-Identifier: Apache-2.0
"""A host of a topology on which a real systemd runs, with Brass installed as `cmake --install` does it.

    m = Machine(t.r1)
    m.write("/etc/brass/agent.yaml", {...})
    m.boot()
    m.systemctl("start", "brass-agent")

It has the host's network namespace, and namespaces of its own for everything else; /etc, /usr and /var are the lab's with a
writable layer that goes with it. What this kernel's own machine would start is left out; what Brass needs is not.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess

from net import LabError, wait_for
from topology import BUILD

SYSTEMD = "/lib/systemd/systemd"
CGROUPS = "/sys/fs/cgroup"

# Of no use without hardware, terminals or people, or about the kernel that all machines of a lab share.
MASKED = """cryptsetup.target integritysetup.target veritysetup.target getty.target dbus.service dbus.socket
dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount sys-kernel-config.mount
sys-kernel-debug.mount sys-kernel-tracing.mount kmod-static-nodes.service systemd-ask-password-console.path
systemd-ask-password-wall.path systemd-binfmt.service systemd-firstboot.service systemd-initctl.socket systemd-journal-flush.service
systemd-journald-audit.socket systemd-logind.service systemd-machine-id-commit.service systemd-pcrphase-sysinit.service
systemd-pcrphase.service systemd-random-seed.service systemd-remount-fs.service systemd-repart.service systemd-sysctl.service
systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup.service systemd-update-utmp.service
systemd-update-utmp-runlevel.service systemd-user-sessions.service systemd-network-generator.service""".split()

INIT = """
set -e
layer() { mkdir -p "$1/upper$2" "$1/work$2"; mount -t overlay -o "lowerdir=$3$2,upperdir=$1/upper$2,workdir=$1/work$2" layer "$2"; }
# the running kernel's modules are where the lab puts them
mkdir @own@/modules
for place in /lib/modules /run/modules/lib/modules; do [ ! -e $place/$(uname -r) ] || mount --bind $place @own@/modules; done
layer @own@ /usr @installed@/usr:
mkdir -p /lib/modules
mount --bind @own@/modules /lib/modules
layer @own@ /etc ''
layer @own@ /var ''
mkdir -p /etc/brass /etc/systemd/system /etc/systemd/network
mount --bind @own@/brass /etc/brass
mount --bind @own@/units /etc/systemd/system
mount --bind @own@/network /etc/systemd/network
mount -t tmpfs none /etc/init.d
echo @number@ >/etc/machine-id
hostname @name@
mount -t tmpfs run /run
mount -t sysfs -o ro sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
exec env -i container=lab PATH="$PATH" @systemd@ --unit=multi-user.target --log-target=journal --show-status=no
"""


_numbers = itertools.count(1)


def installed(topology):
    """The tree that `cmake --install` makes, once a topology."""
    tree = os.path.join(topology.directory, "installed")
    if not os.path.isdir(tree):
        done = subprocess.run(["cmake", "--install", BUILD, "--prefix", "/usr"], env={**os.environ, "DESTDIR": tree}, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"cmake --install: {done.stdout}{done.stderr}")
    return tree


class Machine:
    def __init__(self, host):
        self.host = host
        self.own = host.directory("machine")
        self.name = "systemd"
        self.process = self.pid = None
        host.topology.daemons.append(self)
        self.cgroup = os.path.join(CGROUPS, f"{host.topology.prefix}-{host.name}")
        os.chmod(self.own, 0o755)
        for name in ("brass", "units", "network"):
            os.makedirs(os.path.join(self.own, name), exist_ok=True)
        for name in MASKED:
            self.unit(name, None)

    # --- before it boots, or while it runs

    def configure(self, name, **config):
        """/etc/brass/NAME.yaml. JSON is YAML."""
        with open(os.path.join(self.own, "brass", name + ".yaml"), "w") as f:
            json.dump(config, f, indent=1)

    def unit(self, name, text):
        """A unit file of the administrator's, or (text None) no such unit; `systemctl daemon-reload` is the caller's business."""
        path = os.path.join(self.own, "units", name)
        if text is None:
            os.symlink("/dev/null", path)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def networkd(self, **files):
        """systemd-networkd manages this machine's devices by these .network files."""
        for name, text in files.items():
            self.unit(f"../network/{name.replace('_', '-')}.network", text)
        self.enable("systemd-networkd.service")
        for name in ("dbus.service", "dbus.socket"):  # networkctl asks over it
            os.unlink(os.path.join(self.own, "units", name))

    def enable(self, name, text=None):
        """Started at boot; with text it is a unit of this machine's own."""
        if text is not None:
            self.unit(name, text)
        wants = os.path.join(self.own, "units", "multi-user.target.wants")
        os.makedirs(wants, exist_ok=True)
        where = "/etc" if text is not None else "/lib"
        os.symlink(f"{where}/systemd/system/{name}", os.path.join(wants, name))

    # --- life

    def boot(self):
        script = INIT
        values = {"own": self.own, "installed": installed(self.host.topology), "number": f"{next(_numbers):032x}", "name": self.host.name, "systemd": SYSTEMD}
        for name, value in values.items():
            script = script.replace(f"@{name}@", value)
        os.makedirs(self.cgroup)
        start = f'echo $$ >{self.cgroup}/cgroup.procs; exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --mount-proc sh -c "$0"'
        self.process = self.host.start("sh", "-c", start, script, name="systemd")
        wait_for(self._find_pid, 60, f"systemd of {self.host.name}")
        # a job that waits for another one to end is not done: neither state is
        wait_for(lambda: self.systemctl("is-system-running", check=False).stdout.strip() in ("running", "degraded"), 60, f"{self.host.name} is up")

    def _find_pid(self):
        if not self.process.running():
            raise LabError(f"{self.host.name} does not boot: {self.process.output()}")
        with open(f"/proc/{self.process.popen.pid}/task/{self.process.popen.pid}/children") as f:
            children = f.read().split()
        if not children:
            return None
        with open(f"/proc/{children[0]}/comm") as f:
            self.pid = children[0] if f.read().strip() == "systemd" else None
        return self.pid

    def power_off(self):
        """What `systemctl poweroff` asks for; does not wait."""
        os.kill(int(self.pid), signal.SIGRTMIN + 4)

    def wait_off(self, timeout=60):
        self.process.wait(timeout)
        for folder, _, _ in os.walk(self.cgroup, topdown=False):
            os.rmdir(folder)

    # --- use

    def run(self, *argv, **options):
        """A command on this machine."""
        return self.host.run("nsenter", "-t", self.pid, "-m", "-u", "-i", "-p", "-C", "--", *argv, **options)

    def systemctl(self, *words, **options):
        return self.run("systemctl", "--no-pager", *words, **options)

    def show(self, unit, *names):
        """Properties of a unit: the value of one, or a dictionary."""
        lines = self.systemctl("show", unit, *[f"-p{name}" for name in names]).stdout.splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        return values.get(names[0], "") if len(names) == 1 else values

    def journal(self, unit):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def log(self):
        """Everything that was logged since it booted, for the report of a test that failed."""
        if not self.pid or not self.process.running():
            return self.process.output() if self.process else ""
        lines = self.run("journalctl", "--no-pager", "-o", "short-precise", check=False).stdout.splitlines(True)
        return "".join(line for line in lines if " kernel: " not in line)

    def status_of(self, unit):
        """/proc/PID/status of its main process."""
        text = self.run("cat", f"/proc/{self.show(unit, 'MainPID')}/status").stdout
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def missing():
    """Why there can be no machine here; None if there can."""
    if not os.path.exists(SYSTEMD):
        return "there is no systemd: run scripts/setup"
    return None if shutil.which("cmake") else "there is no cmake: run scripts/setup"
