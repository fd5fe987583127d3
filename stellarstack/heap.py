"""How the daemon's memory lies: what is there after its start in huge pages, what is freed kept for the next use.

A key that is typed after some idle milliseconds touches a little of very many objects, each in a page whose address no
cache knows any more. In huge pages they are few, which takes a twentieth off the key's whole way. Linux 6.1 or newer;
an older kernel, or one without huge pages, says no and everything is as before.

The pieces of a flood are freed some megabytes at a time. The C library would give those to the kernel, which has to
fill them with zeros and hand them out again page by page: a twentieth of what a flood costs.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

SIZE = 2 << 20  # bytes of a huge page
_MOST = 40  # huge pages that are tried
_COLLAPSE = 25  # MADV_COLLAPSE
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # mallopt(3)
_KEPT = 16 << 20  # bytes that are free at the heap's end at most
_MAPPED = 8 << 20  # bytes of a block from which it is not in the heap
_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p [0-9a-f]+ 00:00 0 *(.*)")


def heaps(maps: str) -> Iterator[int]:
    """Where a huge page fits into private memory that belongs to no file, of what /proc/self/maps says."""
    for line in maps.splitlines():
        found = _LINE.fullmatch(line)
        if found is not None and (found[3] in ("", "[heap]") or found[3].startswith("[anon")):
            start, end = int(found[1], 16), int(found[2], 16)
            yield from range(-(-start // SIZE) * SIZE, end // SIZE * SIZE, SIZE)


def keep_freed() -> bool:
    """Freed memory at the heap's end stays with the process, up to 16 MiB. False: this C library has no such option.

    To be called before there are threads: each would have a heap of its own.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = (_ARENA_MAX, 1), (_TRIM_THRESHOLD, _KEPT), (_MMAP_THRESHOLD, _MAPPED)
    return all(mallopt(option, value) for option, value in wanted)


def collapse() -> int:
    """Makes huge pages, each of which takes some milliseconds, and answers how many. To be called in a thread."""
    try:
        places = list(heaps(Path("/proc/self/maps").read_text()))
        madvise = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return 0
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return sum(madvise(place, SIZE, _COLLAPSE) == 0 for place in places[:_MOST])  # no stack of a thread is made one
