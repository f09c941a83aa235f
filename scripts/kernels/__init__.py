# SPDX-License-Identifier: Apache-2.0
"""The kernels that scripts/lab can run a command in, one file each.

A kernel is a class: `name` (BRASS_LAB inside), `consoles` (the command's streams are consoles of the lab, and its input
comes in files), and made with (job, opts, streams) it has begun to run. Then: `process` (its end is the lab's end), `signal(number)`
for the command (OSError: not yet), `kill()`, and `kernel_log()`.
"""

import ctypes
import signal

SANE_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class LabError(Exception):
    """The lab cannot be started; the text says why."""


def prctl(option, value):
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def die_with_parent():
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
