"""The blueprints installed on this node: files of `[paths] blueprints`, looked up by id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stellarstack.core.blueprint import Blueprint, parse_blueprint
from stellarstack.core.documents import load_text
from stellarstack.core.messages import Json
from stellarstack.errors import BlueprintInvalid, InvalidPayload
from stellarstack.servers.threads import Threads

ENDINGS = (".json", ".toml", ".yaml", ".yml")
SIZE_LIMIT = 2 * 2**20  # bytes


class BlueprintShelf:
    """Reads a blueprint anew at each use: a file changed on disk counts from the next create on."""

    def __init__(self, folder: Path, threads: Threads) -> None:
        self._folder = folder
        self._threads = threads

    async def find(self, wanted: str | Mapping[str, Json]) -> Blueprint:
        """InvalidPayload: no such id. BlueprintInvalid: it cannot be used; the text names the key."""
        if isinstance(wanted, str):
            return await self._threads(self._load, wanted)
        return await self._threads(parse_blueprint, wanted)

    def _load(self, blueprint_id: str) -> Blueprint:
        for ending in ENDINGS:
            path = self._folder / (blueprint_id + ending)
            if path.is_file():
                return _read(path, blueprint_id)
        for path in sorted(self._folder.glob("*")) if self._folder.is_dir() else []:
            if path.suffix in ENDINGS and path.is_file() and (found := _if_it_is(path, blueprint_id)):
                return found
        raise InvalidPayload(f"`blueprint`: none of id {blueprint_id!r} is installed in {self._folder}")


def _read(path: Path, default_id: str) -> Blueprint:
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise BlueprintInvalid(f"{path} is over {SIZE_LIMIT} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BlueprintInvalid(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BlueprintInvalid(f"{path} is not UTF-8 (byte {error.start})") from None
    return parse_blueprint(load_text(text, path.name), default_id=default_id)


def _if_it_is(path: Path, blueprint_id: str) -> Blueprint | None:
    try:
        found = _read(path, path.stem)
    except BlueprintInvalid:
        return None
    return found if found.id == blueprint_id else None
