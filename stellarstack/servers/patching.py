"""Puts the blueprint's values into a server's config files before each start (PROTOCOL 12, `configFiles`)."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from stellarstack.core.configfiles import FILE_MOST
from stellarstack.core.configfiles.of_server import file_path, patch_file
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import PathForbidden, StellarError
from stellarstack.servers.rooted import folder_below, read_file, replace_file


def patch_files(spec: ServerSpec, root: Path, owner: tuple[int, int], subnet: str) -> None:
    """Patches them all, in the blueprint's order. Blocks: for a thread.

    BlueprintInvalid, TooLarge, PathForbidden name the file; it is untouched and the server is not to be started.
    """
    gateway = str(IPv4Network(subnet)[1])
    for file in spec.blueprint.config_files:
        path = Path(file_path(spec, file))
        if not path.name:
            raise PathForbidden(f"{file.path:.80}: names no file")
        *folders, name = path.parts
        try:
            with folder_below(root, tuple(folders), owner, make=file.create) as folder:
                content = read_file(folder, name, FILE_MOST)
                if content is None and not file.create:
                    continue
                patched = patch_file(spec, file, content, interface=gateway)
                if patched != content:
                    replace_file(folder, name, patched, owner)
        except FileNotFoundError:
            continue  # a folder that nobody wants made
        except OSError as error:
            raise StellarError(f"{file.path}: cannot be patched: {error.strerror}") from None
