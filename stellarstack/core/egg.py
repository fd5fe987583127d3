"""Reads Pterodactyl and Pelican eggs as they are: PTDL_v1, PTDL_v2, PLCN_v1 to v3 (EGGS.md). Performs no I/O.

Takes what a panel takes: pieces of JSON inside strings, lists for strings, nulls for lists. What is no egg
of a known version, or has no sense at all, is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stellarstack.core.blueprint import (
    BLUEPRINT_ID,
    EGG_ROOT,
    Blueprint,
    ConfigFile,
    Feature,
    ImageChoice,
    InstallPlan,
    Replacement,
    Variable,
    Volume,
    blueprint_id,
)
from stellarstack.core.configfiles.names import PARSER_NAMES, parser_name
from stellarstack.core.documents import load_json
from stellarstack.core.messages import Json
from stellarstack.core.reading import Fields, kind_of
from stellarstack.core.ready import PATTERNS_MOST, ReadyCheck, ReadyKind, egg_pattern
from stellarstack.core.rules import split_rules
from stellarstack.core.stop import parse_stop
from stellarstack.errors import BlueprintInvalid

VERSIONS = ("PTDL_v1", "PTDL_v2", "PLCN_v1", "PLCN_v2", "PLCN_v3")
VARIABLE_KEY = re.compile(r"[\w-]{1,191}")  # of any alphabet, as panels take them
_TEXT_MOST = 1 << 20
_ITEMS_MOST = 1000
# Eggs know no timeout, and some update their game by every start.
EGG_READY_TIMEOUT = 1800.0


def is_egg(document: Mapping[str, Json]) -> bool:
    """Whether it says so itself: `meta.version`."""
    meta = document.get("meta")
    return isinstance(meta, Mapping) and "version" in meta


def parse_egg(document: Mapping[str, Json], default_id: str) -> Blueprint:
    """An egg as a blueprint. BlueprintInvalid names the key."""
    top = Fields(document, BlueprintInvalid)
    version = top.object("meta").text("version", "", most=64)
    if version not in VERSIONS:
        raise BlueprintInvalid(f"meta.version: must be one of {', '.join(VERSIONS)}, not {version!r}")
    config = Fields(_unwrapped(top, "config"), BlueprintInvalid, "config")
    name = _text(top, "name").strip() or "egg"
    startups = _startups(top)
    return Blueprint(
        id=_id(default_id or _text(top, "uuid"), name),
        name=name,
        egg=True,
        description=_text(top, "description"),
        version=version,
        author=_text(top, "author"),
        images=_images(top),
        startup=startups[0].image if startups else "",
        startups=startups,
        ready=_ready(Fields(_unwrapped(config, "startup"), BlueprintInvalid, "config.startup")),
        stop=parse_stop(_text(config, "stop"), egg=True),
        variables=_variables(top),
        volumes=(Volume(EGG_ROOT),),
        install=_install(top),
        config_files=_config_files(config),
        file_denylist=_strings(top, "file_denylist"),
        features=_features(top),
    )


def _id(wanted: str, name: str) -> str:
    """`wanted` (a file's name, a uuid) where it is one, else made of it, else of `name`."""
    return blueprint_id("", wanted if BLUEPRINT_ID.fullmatch(wanted) else "", wanted.strip() or name)


def _text(fields: Fields, key: str) -> str:
    """A string of any content; numbers as written, anything else as empty. NUL is taken out."""
    found = fields.raw(key)
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    if not isinstance(found, str):
        return ""
    if len(found) > _TEXT_MOST:
        raise fields.refuse(key, f"is over {_TEXT_MOST} characters")
    return found.replace("\0", "")


def _unwrapped(fields: Fields, key: str) -> Mapping[str, Json]:
    """An object, or a string with an object's JSON in it; null, "" and an empty list are an empty object."""
    found = fields.raw(key)
    if isinstance(found, str) and found.strip():
        try:
            found = load_json(found)
        except ValueError as error:
            raise fields.refuse(key, f"has no JSON in it: {error}") from error
    if found is None or found == "" or found == [] or (isinstance(found, str) and not found.strip()):
        return {}
    if not isinstance(found, Mapping):
        raise fields.refuse(key, f"must be an object, not {kind_of(found)}")
    return found


def _strings(fields: Fields, key: str) -> tuple[str, ...]:
    """A list of strings; null and "" are an empty one, a single string is a list of one."""
    found = fields.raw(key)
    if isinstance(found, str):
        found = [found]
    if isinstance(found, Mapping):
        found = list(found.values())
    if not isinstance(found, list):
        return ()
    if any(isinstance(item, str) and len(item) > _TEXT_MOST for item in found):
        raise fields.refuse(key, f"is over {_TEXT_MOST} characters")
    return tuple(item for item in found[:_ITEMS_MOST] if isinstance(item, str) and item.strip())


def _images(top: Fields) -> tuple[ImageChoice, ...]:
    """`docker_images` (a map or list), the older `images` (list) or `image`; the first is the default."""
    for key in ("docker_images", "images", "image"):
        found = top.raw(key)
        if isinstance(found, Mapping):
            named = tuple(
                _image(label, image) for label, image in found.items() if isinstance(image, str) and image.strip()
            )
            if named:
                return named
        elif listed := _strings(top, key):
            return tuple(_image(image, image) for image in listed)
    return ()


def _image(label: str, image: str) -> ImageChoice:
    """A leading `~` (use the local one) goes away: a local image is always used."""
    return ImageChoice(label.strip(), image.strip().removeprefix("~"))


def _startups(top: Fields) -> tuple[ImageChoice, ...]:
    """PLCN_v3 names several commands; the first is the default."""
    found = top.raw("startup_commands")
    if isinstance(found, Mapping):
        return tuple(ImageChoice(label, command) for label, command in found.items() if isinstance(command, str))
    listed = _strings(top, "startup_commands") or _strings(top, "startup")
    return tuple(ImageChoice("default", command.replace("\0", "")) for command in listed)


def _ready(startup: Fields) -> ReadyCheck:
    """Without any `done` a server counts as running at once."""
    found = startup.raw("done")
    listed = found if isinstance(found, list) else [] if found is None else [found]
    texts = [text for text in listed if isinstance(text, str)][:PATTERNS_MOST]
    patterns = tuple(egg_pattern(text, len(texts)) for text in texts)
    if not patterns:
        return ReadyCheck(kind=ReadyKind.NONE)
    return ReadyCheck(kind=ReadyKind.LOG, patterns=patterns, timeout=EGG_READY_TIMEOUT)


def _variables(top: Fields) -> tuple[Variable, ...]:
    """The last of a repeated variable wins, at the place of the first, as in a panel's table."""
    found: dict[str, Variable] = {}
    listed = top.raw("variables")
    if isinstance(listed, Mapping):  # PHP's way to write a list with a hole in it
        listed = list(listed.values())
    for item in listed if isinstance(listed, list) else []:
        if item is None:
            continue
        variable = _variable(Fields(item, BlueprintInvalid, f"variables[{len(found)}]"))
        if variable is not None:
            found[variable.key] = variable
    return tuple(found.values())


def _variable(fields: Fields) -> Variable | None:
    key = _text(fields, "env_variable").strip()
    if not VARIABLE_KEY.fullmatch(key):
        raise fields.refuse("env_variable", f"must be letters, digits, _ and - (191 at most), not {key!r:.80}")
    default = fields.raw("default_value")
    if isinstance(default, bool):
        default = "1" if default else "0"
    return Variable(
        key=key,
        env=key.upper(),
        default=str(default) if isinstance(default, str | int | float) else "",
        rules=split_rules(fields.raw("rules")),
        name=_text(fields, "name"),
        description=_text(fields, "description"),
        user_viewable=_flag(fields.raw("user_viewable")),
        user_editable=_flag(fields.raw("user_editable")),
    )


def _flag(value: Json) -> bool:
    return value in (True, 1, "1", "true")


def _install(top: Fields) -> InstallPlan | None:
    scripts = Fields(_unwrapped(top, "scripts"), BlueprintInvalid, "scripts")
    fields = Fields(_unwrapped(scripts, "installation"), BlueprintInvalid, "scripts.installation")
    script = _text(fields, "script").replace("\r\n", "\n").replace("\r", "\n")
    if not script.strip():
        return None
    return InstallPlan(
        image=_text(fields, "container").strip().removeprefix("~"),
        script=script,
        entrypoint=tuple(_text(fields, "entrypoint").split()) or ("bash",),
        root=True,
    )


def _config_files(config: Fields) -> tuple[ConfigFile, ...]:
    files = Fields(_unwrapped(config, "files"), BlueprintInvalid, "config.files")
    found = (_config_file(files, path) for path in _unwrapped(config, "files"))
    return tuple(file for file in found if file is not None)


def _config_file(files: Fields, path: str) -> ConfigFile | None:
    """None: an entry that a panel passes over. Of an unknown parser only the file is made, as panels' daemons do."""
    entry = files.raw(path)
    if not isinstance(entry, Mapping):
        return None
    fields = Fields(entry, BlueprintInvalid, files.path(path))
    name = str(fields.raw("parser") or "").strip().lower()
    find = fields.raw("find")
    if not re.fullmatch(r"[a-z0-9_-]*", name):
        raise fields.refuse("parser", f"must be one of {', '.join(sorted(PARSER_NAMES))}, not {name!r:.40}")
    known = name in PARSER_NAMES
    place = path.lstrip("/").removeprefix("./")
    if not place or "\0" in place or ".." in place.split("/") or len(place) > 4096:
        raise files.refuse(path[:80], "must be a path below the server's root")
    return ConfigFile(
        path=place,
        parser=parser_name(name) if known else "file",
        replacements=_replacements(find) if known and isinstance(find, Mapping) else (),
        create=fields.raw("create_file") is not False,
    )


def _replacements(find: Mapping[str, Json]) -> tuple[Replacement, ...]:
    found: list[Replacement] = []
    for key, value in find.items():
        if isinstance(value, Mapping):
            found += [Replacement(key, to, current) for current, to in value.items()]
        else:
            found.append(Replacement(key, value))
    return tuple(found)


def _features(top: Fields) -> tuple[Feature, ...]:
    """A list of names, or (Pelican) a map of name -> patterns."""
    found = top.raw("features")
    if isinstance(found, Mapping):
        listed = Fields(found, BlueprintInvalid, "features")
        return tuple(Feature(name, _strings(listed, name)) for name in found)
    return tuple(Feature(name) for name in _strings(top, "features"))
