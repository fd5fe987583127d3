"""The folder of installed blueprints (`[paths] blueprints`) as the operator fills it: judged, then kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stellarstack.atomic import write_atomically
from stellarstack.core.blueprint import BLUEPRINT_ID, Blueprint, parse_blueprint
from stellarstack.core.documents import load_text
from stellarstack.errors import StellarError

ENDINGS = (".json", ".toml", ".yaml", ".yml")
SIZE_LIMIT = 2 * 2**20  # bytes
FOLDER_MODE, FILE_MODE = 0o700, 0o600


class BlueprintRefused(StellarError):
    """A blueprint is not taken, or not found. The text is what the operator reads."""

    code = "config_invalid"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One blueprint file: its bytes as they are, and what the daemon reads in them."""

    path: Path
    content: bytes
    blueprint: Blueprint

    @property
    def format(self) -> str:
        """`native`, or the egg's version."""
        return self.blueprint.version if self.blueprint.egg else "native"


@dataclass(frozen=True, slots=True)
class Taken:
    """What an import did: `new`, `unchanged` or `replaced`, and which parts of the blueprint are others now."""

    sheet: Sheet
    outcome: str
    changes: tuple[str, ...] = ()


def read_sheet(path: Path) -> Sheet:
    """Reads a file strictly, as the daemon will. BlueprintRefused is one line that names it.

    Where the file says no id of its own (eggs), the file's name without its ending is the id, if it can be one.
    """
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise BlueprintRefused(f"{path}: {error.strerror or error}") from None
    if len(content) > SIZE_LIMIT:
        raise BlueprintRefused(f"{path}: is over {SIZE_LIMIT} bytes")
    default_id = path.stem if BLUEPRINT_ID.fullmatch(path.stem) else ""
    try:
        document = load_text(content.decode("utf-8-sig"), path.name)
        return Sheet(path, content, parse_blueprint(document, default_id=default_id))
    except UnicodeDecodeError as error:
        raise BlueprintRefused(f"{path}: is not UTF-8 (byte {error.start})") from None
    except StellarError as error:
        told = str(error).removeprefix(f"{path.name}: ")
        raise BlueprintRefused(f"{path}: {' '.join(told.split())}") from None


class BlueprintFolder:
    """Reads and writes `folder`. What the daemon runs as root's word lies here, so nobody else may write it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sheets(self) -> Iterator[Sheet | BlueprintRefused]:
        """Every file with a blueprint's ending, by name; of one that cannot be used, why."""
        for path in self._paths():
            try:
                yield read_sheet(path)
            except BlueprintRefused as error:
                yield error

    def find(self, blueprint_id: str) -> Sheet:
        """The one that the daemon would take for this id. BlueprintRefused: none, or it cannot be used."""
        for ending in ENDINGS:
            path = self._folder / f"{blueprint_id}{ending}"
            if BLUEPRINT_ID.fullmatch(blueprint_id) and path.is_file():
                return read_sheet(path)
        for sheet in self.sheets():
            if isinstance(sheet, Sheet) and sheet.blueprint.id == blueprint_id:
                return sheet
        raise BlueprintRefused(f"no blueprint {blueprint_id!r:.80} is installed in {self._folder}")

    def take(self, sheet: Sheet, *, force: bool) -> Taken:
        """Puts `sheet` here under its id, byte for byte. BlueprintRefused: another one stands there, and no `force`."""
        self._own()
        target = self._folder / f"{sheet.blueprint.id}{sheet.path.suffix.lower()}"
        standing = [path for path in self._paths() if path == target or self._is(path, sheet.blueprint.id)]
        if standing == [target] and target.read_bytes() == sheet.content:
            return Taken(sheet, "unchanged")
        changes = self._changes(standing, sheet.blueprint)
        if standing and not force:
            what = ", ".join(changes) or "its text, not its meaning"
            raise BlueprintRefused(
                f"{sheet.path}: {sheet.blueprint.id} is installed already ({standing[0].name}) and differs in {what}; "
                "--force replaces it"
            )
        self._write(target, sheet.content)
        for path in standing:
            if path != target:
                path.unlink(missing_ok=True)
        return Taken(sheet, "replaced" if standing else "new", changes)

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())

    @staticmethod
    def _is(path: Path, blueprint_id: str) -> bool:
        """Whether the daemon may take this file for that id, by its name or by what it says."""
        if path.stem == blueprint_id:
            return True
        try:
            return read_sheet(path).blueprint.id == blueprint_id
        except BlueprintRefused:
            return False

    @staticmethod
    def _changes(standing: list[Path], new: Blueprint) -> tuple[str, ...]:
        if not standing:
            return ()
        try:
            return changes_between(read_sheet(standing[0]).blueprint, new)
        except BlueprintRefused:
            return ("all: the installed one cannot be read",)

    def _own(self) -> None:
        """Makes the folder with 0700, or makes sure that it is ours or root's alone."""
        try:
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            found = self._folder.stat()
            if found.st_uid not in (0, os.geteuid()):
                raise BlueprintRefused(f"{self._folder} belongs to user {found.st_uid}; it must belong to root")
            if found.st_mode & 0o077:
                self._folder.chmod(FOLDER_MODE)
        except OSError as error:
            raise BlueprintRefused(f"{self._folder}: {error.strerror or error}") from None

    def _write(self, target: Path, content: bytes) -> None:
        """At once: the daemon reads the old file or the new one, and a full disk leaves the old one."""
        try:
            write_atomically(target, content, FILE_MODE)
        except OSError as error:
            raise BlueprintRefused(f"{target}: cannot be written: {error.strerror or error}") from None


def changes_between(old: Blueprint, new: Blueprint) -> tuple[str, ...]:
    """The parts that are others now, in words: `images`, `variable MOTD`, `variable OLD (gone)` …"""
    before, after = old.to_json(), new.to_json()
    named = {key for key in after if before.get(key) != after[key]} - {"variables", "config_files", "id"}
    found = [key.replace("_", " ") for key in after if key in named]
    for word, olds, news in (
        ("variable", {item.key: item for item in old.variables}, {item.key: item for item in new.variables}),
        ("config file", {item.path: item for item in old.config_files}, {item.path: item for item in new.config_files}),
    ):
        found += [f"{word} {key} (new)" for key in news if key not in olds]
        found += [f"{word} {key} (gone)" for key in olds if key not in news]
        found += [f"{word} {key}" for key in news if key in olds and olds[key] != news[key]]
    return tuple(found)
