"""Puts a whole tree into a project of the file system's quota, or takes it out. Blocks: for threads.

Each folder is opened from its parent's descriptor and never through a link, so a tenant who swaps things meanwhile
leads it nowhere. A folder is labelled before it is listed: what is made in it later inherits the label.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from threading import Event
from typing import Protocol

from stellarstack.errors import StellarError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
DEEPEST = 1000  # folders below one another: each holds a descriptor meanwhile
# What may happen to an entry between its being seen and its being opened, and files that nobody may change.
_PASSED_OVER = {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EPERM, errno.ETXTBSY, errno.ENXIO, errno.ENOTTY}


class Labels(Protocol):
    """What ProjectQuota does with one file."""

    def project_of(self, descriptor: int) -> int: ...

    def put_into(self, descriptor: int, project: int, *, folder: bool) -> None: ...


def is_labelled(root: Path, project: int, labels: Labels) -> bool:
    """Whether the root itself carries the project and hands it on. StellarError: it cannot be read."""
    try:
        descriptor = os.open(root, _FOLDER)
        try:
            return labels.project_of(descriptor) == project
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StellarError(f"{root} cannot be looked at: {error.strerror}") from None


def label_tree(root: Path, project: int, labels: Labels, ended: Event) -> bool:
    """Puts all files and folders below `root`, and itself, into `project`; 0 takes them out of any.

    Answers whether all of it was done: not where `ended` was set meanwhile, or folders lie too deep. StellarError: the
    root cannot be opened, or the file system refuses. Links, sockets and pipes carry no label, and take no space.
    """
    try:
        return _Round(project, labels, ended).run(root)
    except OSError as error:
        raise StellarError(f"{root} cannot be put into project {project}: {error.strerror}") from None


class _Round:
    def __init__(self, project: int, labels: Labels, ended: Event) -> None:
        self._project = project
        self._labels = labels
        self._ended = ended
        self._device = 0
        self._whole = True

    def run(self, root: Path) -> bool:
        top = os.open(root, _FOLDER)
        self._device = os.fstat(top).st_dev
        levels: list[tuple[int, list[str]]] = [(top, [])]
        try:
            levels[0] = (top, self._folder(top))
            while levels and not self._ended.is_set():
                descriptor, folders = levels[-1]
                if not folders:
                    os.close(levels.pop()[0])
                elif len(levels) < DEEPEST:
                    self._descend(levels, descriptor, folders.pop())
                else:
                    folders.clear()
                    self._whole = False
        finally:
            for descriptor, _ in levels:
                os.close(descriptor)
        return self._whole and not self._ended.is_set()

    def _descend(self, levels: list[tuple[int, list[str]]], parent: int, name: str) -> None:
        try:
            child = os.open(name, _FOLDER, dir_fd=parent)
        except OSError as error:
            if error.errno not in _PASSED_OVER:
                raise
            return
        levels.append((child, []))
        if os.fstat(child).st_dev == self._device:
            levels[-1] = (child, self._folder(child))

    def _folder(self, descriptor: int) -> list[str]:
        """Labels one folder and the files in it; answers its folders."""
        self._labels.put_into(descriptor, self._project, folder=True)
        folders = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if self._ended.is_set():
                    break
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_file(follow_symlinks=False):
                    self._file(descriptor, entry.name)
        return folders

    def _file(self, parent: int, name: str) -> None:
        try:
            descriptor = os.open(name, _FILE, dir_fd=parent)
        except OSError as error:
            if error.errno not in _PASSED_OVER:
                raise
            return
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_dev == self._device:
                self._labels.put_into(descriptor, self._project, folder=False)
        except OSError as error:
            if error.errno not in _PASSED_OVER:
                raise
        finally:
            os.close(descriptor)
