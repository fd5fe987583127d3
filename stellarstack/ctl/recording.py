"""Writes what a console shows as an asciinema v2 recording, while it is shown."""

from __future__ import annotations

import codecs
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from stellarstack.ctl.control import Refused
from stellarstack.ctl.screen import Screen

UNKNOWN_SIZE = (80, 24)


class Recording:
    """One file, 0600, one JSON line an event: `o` output, `r` a new size, `m` a mark. What is typed is never in it.

    Times are seconds since the recording began. `failed` is why it ended early, such as a full disk; it never raises.
    """

    def __init__(self, file: int, size: tuple[int, int] | None, title: str, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock
        self._begun = clock()
        self._size = size or UNKNOWN_SIZE
        self._good = 0  # bytes of whole lines
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self.failed = ""
        header = {"version": 2, "width": self._size[0], "height": self._size[1], "timestamp": int(time.time())}
        self._write({**header, "title": title, "env": {"TERM": os.environ.get("TERM", "xterm-256color")}})

    @classmethod
    def begin(
        cls, path: Path, *, size: tuple[int, int] | None, title: str, force: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> Recording:  # fmt: skip
        """Makes the file. Refused: it is there and `force` is not given, or it cannot be made."""
        try:
            if force:
                _remove_old(path)
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            raise Refused(f"{path} is there already; --force replaces it") from None
        except OSError as error:
            raise Refused(f"{path}: {error.strerror or error}") from None
        return cls(file, size, title, clock)

    def output(self, piece: bytes) -> None:
        """What was shown just now. A character that is cut waits for its rest."""
        text = self._text.decode(piece)
        if text:
            self._event("o", text)

    def resized(self, size: tuple[int, int] | None) -> None:
        """The window has another size."""
        if size is not None and size != self._size:
            self._size = size
            self._event("r", f"{size[0]}x{size[1]}")

    def mark(self, text: str) -> None:
        """A place that a player can jump to: a gap, a new status."""
        self._event("m", text)

    def close(self) -> None:
        """No more comes; what is left of a cut character is written as it is."""
        if self._file < 0:
            return
        rest = self._text.decode(b"", final=True)
        if rest:
            self._event("o", rest)
        os.close(self._file)
        self._file = -1

    def _event(self, kind: str, text: str) -> None:
        self._write([round(self._clock() - self._begun, 6), kind, text])

    def _write(self, line: Any) -> None:
        if self.failed or self._file < 0:
            return
        whole = memoryview(json.dumps(line).encode() + b"\n")
        view = whole
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            self.failed = error.strerror or str(error)
            with suppress(OSError):  # half a line would spoil the whole file
                os.ftruncate(self._file, self._good)
        else:
            self._good += len(whole)


def _remove_old(path: Path) -> None:
    """The file that is replaced: a new one has our mode, and no link is followed."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise Refused(f"{path} is no file that could be replaced")
    path.unlink()


class RecordedScreen:
    """A screen whose output is recorded; what stellarctl itself says becomes a mark."""

    def __init__(self, screen: Screen, recording: Recording) -> None:
        self._screen = screen
        self._recording = recording
        self._told = False

    @property
    def interactive(self) -> bool:
        return self._screen.interactive

    @property
    def keys_ended(self) -> bool:
        return self._screen.keys_ended

    def size(self) -> tuple[int, int] | None:
        return self._screen.size()

    def wait(self, others: list[Any], seconds: float, *, keys: bool) -> tuple[list[Any], bytes, bool]:
        ready, typed, resized = self._screen.wait(others, seconds, keys=keys)
        if resized:
            self._recording.resized(self._screen.size())
        return ready, typed, resized

    def show(self, output: bytes) -> None:
        self._screen.show(output)
        self._recording.output(output)
        if self._recording.failed and not self._told:
            self._told = True
            self._screen.warn(f"the recording has ended: {self._recording.failed}")

    def say(self, text: str) -> None:
        self._recording.mark(text)
        self._screen.say(text)

    def warn(self, text: str) -> None:
        self._recording.mark(text)
        self._screen.warn(text)
