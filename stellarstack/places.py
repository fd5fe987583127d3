"""The files and folders that daemon.toml names: made, or refused in one line, before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

from stellarstack.atomic import remove_leftovers
from stellarstack.config import Config
from stellarstack.errors import ConfigError
from stellarstack.statefolder import make_folder

SECCOMP_LIMIT = 2**20


def make_places(config: Config) -> None:
    """Makes what is missing, and removes what a `kill -9` left half written. ConfigError: one cannot be used."""
    make_folder(config.servers_path, 0o711, "[paths] servers")
    for key, path in (("blueprints", config.blueprints_path), ("console", config.console_path)):
        make_folder(path, 0o700, f"[paths] {key}")
    make_folder(config.database_path.parent, 0o700, "[paths] database")
    files = {
        "[paths] database": config.database_path,
        "[paths] control_socket": config.paths.control_socket,
        "[redis] embedded_socket": config.embedded_socket,
        "[docker] socket": config.docker.socket,
    }
    for key, path in files.items():
        if path.is_dir():
            raise ConfigError(f"{key}: found the folder {path}, allowed is a file's path")
    remove_leftovers({config.paths.state, config.console_path, config.blueprints_path, config.database_path.parent})


def read_seccomp(path: Path | None) -> str | None:
    """The text of `[docker] seccomp_profile`, None where there is none. ConfigError: it is no profile."""
    if path is None:
        return None
    place = f"[docker] seccomp_profile: {path}"
    try:
        with path.open("rb") as file:
            raw = file.read(SECCOMP_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{place} cannot be read: {error.strerror or error}") from None
    if len(raw) > SECCOMP_LIMIT:
        raise ConfigError(f"{place}: found more than {SECCOMP_LIMIT} bytes, allowed is a profile of that at most")
    try:
        text = raw.decode()
        profile = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: found no valid JSON: {' '.join(str(error).split()):.200}") from None
    if not isinstance(profile, dict) or not isinstance(profile.get("defaultAction"), str):
        raise ConfigError(f"{place}: found no defaultAction, allowed is a seccomp profile as Docker takes it")
    return text
