# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel for amd64 in QEMU, without KVM: what user-mode Linux lacks is in it, and nothing is installed where it could
boot this machine (scripts/lab-kernel fetches it).

Its root is this machine's over 9p, read-only; a second 9p device has the same to be written to, of which lab-init mounts the
places that are writable, and the job directory. The command's stdout and stderr leave by virtio ports, which wait for whoever
reads them (virtio consoles lose what he cannot take), and the names of signals come by a third. A terminal is the second
serial line; the first is the kernel's log.
"""

import glob
import os
import shutil
import signal
import stat
import subprocess

from kernels import SANE_PATH, LabError, die_with_parent

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "brass", "kernel")
NEEDED = ("virtio_pci", "9pnet_virtio", "9p", "virtio_console", "virtio-rng")  # before there is a root to load more from
SHARE = "trans=virtio,version=9p2000.L,msize=512000"
FIRST = f"""#!/bin/busybox sh
for module in /modules/*; do /bin/busybox insmod $module; done
/bin/busybox mount -t 9p -o {SHARE},ro,cache=loose root /root
/bin/busybox mount -t devtmpfs dev /root/dev
exec /bin/busybox switch_root /root "$BRASSINIT" qemu
"""
# The kernel works out the speed of its TSC while it boots, and is far off when this machine is busy at that moment.
COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr audit=0 apparmor=0 clocksource=hpet"


def kernel_files():
    """(vmlinuz, version)"""
    found = glob.glob(os.path.join(CACHE, "boot", "vmlinuz-*"))
    if not found:
        raise LabError(f"there is no kernel for QEMU in {CACHE}: run scripts/setup qemu")
    return found[0], os.path.basename(found[0]).partition("-")[2]


def modules_in_order(version):
    order = {}
    for name in NEEDED:
        done = subprocess.run(["modprobe", "-d", CACHE, "-S", version, "--show-depends", name], capture_output=True, text=True,
                              env={"PATH": ":".join(SANE_PATH)}, check=False)  # fmt: skip
        if done.returncode != 0:
            raise LabError(f"the kernel in {CACHE} has no module {name}: {done.stderr.strip()}")
        order.update(dict.fromkeys(line.split()[1] for line in done.stdout.splitlines() if line.startswith("insmod ")))
    return list(order)


def initramfs(version):
    """The archive that the kernel unpacks: busybox, the modules, FIRST (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    archive = bytearray()

    def add(name, mode, data=b""):
        path = name.encode() + b"\0"
        fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        archive.extend(b"070701" + b"".join(b"%08x" % value for value in fields) + path)
        archive.extend(bytes(-len(archive) % 4))
        archive.extend(data)
        archive.extend(bytes(-len(archive) % 4))

    def file(path):
        with open(path, "rb") as f:
            return f.read()

    busybox = shutil.which("busybox", path=":".join(SANE_PATH))
    if not busybox:
        raise LabError("there is no busybox: run scripts/setup (Debian package busybox-static)")
    for directory in ("bin", "modules", "root"):
        add(directory, stat.S_IFDIR | 0o755)
    add("bin/busybox", stat.S_IFREG | 0o755, file(busybox))
    add("init", stat.S_IFREG | 0o755, FIRST.encode())
    for number, path in enumerate(modules_in_order(version)):
        add(f"modules/{number:02}-{os.path.basename(path)}", stat.S_IFREG | 0o644, file(path))
    add("TRAILER!!!", 0)
    return archive


class Qemu:
    name = "qemu"
    consoles = True

    def __init__(self, job, opts, streams):
        self.job = job
        program = shutil.which("qemu-system-x86_64")
        if not program:
            raise LabError("there is no qemu-system-x86_64: run scripts/setup qemu (Debian package qemu-system-x86)")
        vmlinuz, version = kernel_files()
        with open(self.path("initramfs"), "wb") as f:
            f.write(initramfs(version))
        with open(self.path("modules"), "w") as f:
            f.write(os.path.join(CACHE, "lib", "modules"))
        for end in ("in", "out"):
            os.mkfifo(self.path(f"control.{end}"))

        ports, fds = [], []

        def port(name, number, kind):
            ports.extend(["-chardev", f"{kind},id={name}", "-device", f"virtserialport,chardev={name},nr={number},name={name}"])

        def passed(fd):
            fds.append(fd)
            return f"path=/dev/fdset/{len(fds)}"

        for number, (name, fd) in enumerate(zip(("stdout", "stderr"), streams.out), 1):
            if fd is not None:
                port(name, number, f"file,append=on,{passed(fd)}")
        port("control", 3, f"pipe,path={self.path('control')}")
        if streams.stdin == "tty":
            ports.extend(["-chardev", f"serial,id=terminal,{passed(streams.tty_slave)}", "-serial", "chardev:terminal"])
        for number, fd in enumerate(fds, 1):
            ports.extend(["-add-fd", f"fd={fd},set={number}"])
        with open(self.path("qemu.log"), "wb") as log:
            self.process = subprocess.Popen(
                [program, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
                 "-M", "pc,usb=off", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", opts.memory,
                 "-serial", f"file:{self.path('kernel.log')}", "-device", "virtio-rng-pci",
                 "-fsdev", "local,id=root,path=/,security_model=none,multidevs=remap,readonly=on", "-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
                 "-fsdev", "local,id=all,path=/,security_model=none,multidevs=remap", "-device", "virtio-9p-pci,fsdev=all,mount_tag=all",
                 "-device", "virtio-serial-pci", *ports,
                 "-kernel", vmlinuz, "-initrd", self.path("initramfs"), "-append", f"{COMMAND_LINE} BRASSINIT={opts.init} BRASSJOB={job}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds, start_new_session=True, preexec_fn=die_with_parent)  # fmt: skip

    def path(self, name):
        return os.path.join(self.job, name)

    def kernel_log(self):
        log = ""
        for name in ("qemu.log", "kernel.log"):
            if os.path.exists(self.path(name)):
                with open(self.path(name), errors="replace") as f:
                    log += f.read().replace("\r", "")
        return log

    def signal(self, number):
        fd = os.open(self.path("control.in"), os.O_WRONLY | os.O_NONBLOCK)  # ENXIO: nobody reads it yet
        try:
            os.write(fd, signal.Signals(number).name[3:].encode() + b"\n")
        finally:
            os.close(fd)

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
