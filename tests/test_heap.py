"""Which memory is put into huge pages, that nothing in it is harmed, and that what is freed is kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.heap import SIZE, collapse, heaps

MAPS = """\
55d0c8a00000-55d0c8a01000 r--p 00000000 fe:00 131 /usr/bin/python3.11
55d0c9000000-55d0c9500000 rw-p 00000000 00:00 0                          [heap]
7f0000100000-7f0000300000 rw-p 00000000 00:00 0 
7f0000300000-7f0000900000 rw-s 00000000 00:01 77                         /memfd:frames (deleted)
7f0001000000-7f0001200000 rw-p 00000000 00:00 0                          [anon:glibc: malloc]
7f0002000000-7f0002400000 rw-p 00010000 fe:00 132                        /usr/lib/libc.so.6
7f0003000000-7f0003400000 ---p 00000000 00:00 0 
7ffd0c000000-7ffd0c400000 rw-p 00000000 00:00 0                          [stack]
"""  # noqa: W291  as the kernel writes it


VERSION = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
HAS_THEM = VERSION >= (6, 1) and Path("/sys/kernel/mm/transparent_hugepage").exists()


class HugePageTests(SynchronousTestCase):
    def test_heaps(self) -> None:
        """Of the memory that is ours alone and no file's, as many as fit: no stack, nothing shared, nothing guarded."""
        self.assertEqual(list(heaps(MAPS)), [0x55D0C9000000, 0x55D0C9200000, 0x7F0001000000])

    def test_collapse(self) -> None:
        """Huge pages are made where the kernel has them, and what was in memory is as it was."""
        rows = [bytes([number % 251]) * 1000 for number in range(8 * SIZE // 1000)]
        made = collapse()
        if HAS_THEM:
            self.assertTrue(made)
        self.assertTrue(all(row == bytes([number % 251]) * 1000 for number, row in enumerate(rows)))


# In a process of its own: how many pages the kernel had to hand out for the third of three floods of 6 MiB.
FAULTS = """
import resource
from stellarstack.heap import keep_freed
assert keep_freed()
def flood():
    pieces = [b"x" * 150_000 for _ in range(40)]
for _ in range(2):
    flood()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
flood()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


class KeepFreedTests(SynchronousTestCase):
    def test_no_new_pages(self) -> None:
        """What a flood took is there for the next one."""
        found = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
        self.assertLess(int(found.stdout), 100)
