# SPDX-License-Identifier: Apache-2.0
"""Orders for the preloaded tests/tools/lab_faults.c, through a file that both map."""

import mmap
import os
import struct

# the members of its struct control, in its order
ORDERS = ("refuse_per_mille", "lose_per_mille", "interrupt_per_mille", "refuse_in", "lose_in", "interrupt_in", "seed", "sync_ms")
COUNTS = ("changes", "refused", "lost", "interrupted")
_AT = {name: 4 * i for i, name in enumerate(ORDERS + COUNTS)}
_SIZE = 4096


class Faults:
    """Faults for every process started with .environment()."""

    def __init__(self, path, library):
        self.path, self.library = path, library
        with open(path, "wb") as f:
            f.write(bytes(_SIZE))
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(fd, _SIZE)
        os.close(fd)

    def environment(self):
        return {"LD_PRELOAD": self.library, "BRASS_FAULTS": self.path}

    def set(self, **orders):
        for name, value in orders.items():
            assert name in ORDERS, name
            struct.pack_into("=I", self._map, _AT[name], value)

    def get(self, name):
        return struct.unpack_from("=I", self._map, _AT[name])[0]

    def orders(self):
        return {name: self.get(name) for name in ORDERS if name != "seed"}

    def off(self):
        self.set(**{name: 0 for name in ORDERS if name != "seed"})

    def counts(self):
        return {name: self.get(name) for name in COUNTS}
