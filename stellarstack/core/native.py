"""Reads blueprints of this project's own shape, in both spellings that are in use (PROTOCOL 12). Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from stellarstack.core.blueprint import (
    NATIVE_ROOT,
    STOP_TIMEOUT,
    Blueprint,
    ConfigFile,
    ImageChoice,
    InstallPlan,
    Limits,
    PortHint,
    Replacement,
    Variable,
    VersionChoice,
    Volume,
    blueprint_id,
)
from stellarstack.core.configfiles.names import PARSER_NAMES, parser_name
from stellarstack.core.crash import CrashPolicy
from stellarstack.core.images import parse_image
from stellarstack.core.messages import Json
from stellarstack.core.patterns import BadPattern, compile_pattern
from stellarstack.core.reading import Fields, kind_of
from stellarstack.core.ready import PATTERNS_MOST, TIMEOUT_DEFAULT, LinePattern, ReadyCheck, ReadyKind, work_of_each
from stellarstack.core.resources import MEMORY_FLOOR_MB
from stellarstack.core.rules import split_rules
from stellarstack.core.stop import parse_stop
from stellarstack.errors import BlueprintInvalid

VARIABLE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,190}")
SCRIPT_MOST = 1 << 20
COMMAND_MOST = 65536
_MB_MOST = 1 << 30
_SECONDS_MOST = 7 * 86400
_PORT_MOST = 65535


def parse_native(document: Mapping[str, Json], default_id: str) -> Blueprint:
    """A native blueprint. BlueprintInvalid names the first key that does not fit."""
    top = Fields(document, BlueprintInvalid)
    docker = top.object("docker")
    name = top.text("name", "", most=256)
    startup, startup_fields = _startup(top)
    identity = blueprint_id(top.text("id", "", most=256), default_id, name)
    return Blueprint(
        id=identity,
        name=name or identity,
        description=top.text("description", "", lines=True, most=65536),
        version=top.text("version", "", most=128),
        author=top.text("author", "", most=256),
        images=(_image(top, docker),),
        startup=startup,
        workdir=_workdir(startup_fields),
        init=docker.boolean("init", True),
        ready=_ready(startup_fields if startup_fields.has("readyCheck") else top),
        stop=parse_stop(_either(docker, top, "stop_command").text("stop_command", ""), egg=False),
        stop_timeout=_either(docker, top, "stop_timeout").number("stop_timeout", STOP_TIMEOUT, 0, 86400),
        limits=_limits(top.object("resources")),
        ports=tuple(_port(port) for port in _ports(top)),
        variables=_variables(top),
        volumes=_volumes(top),
        install=_install(top),
        config_files=tuple(_config_file(file) for file in top.objects("configFiles")),
        crash=_crash(top.object("crash")),
        versions=tuple(_version(version) for version in top.objects("versions")),
        file_denylist=tuple(str(item) for item in top.items("fileDenylist")),
    )


def _either(first: Fields, second: Fields, key: str) -> Fields:
    return first if first.has(key) or not second.has(key) else second


def _image(top: Fields, docker: Fields) -> ImageChoice:
    fields = _either(docker, top, "image")
    repository, tag, registry = fields.text("image").strip(), fields.text("tag", ""), fields.text("registry", "")
    last = repository.rpartition("/")[2]
    if tag and ":" not in last and "@" not in last:
        repository = f"{repository}:{tag}"
    if registry.strip("/"):
        registry = registry.removeprefix("https://").strip("/")
        repository = repository if repository.startswith(f"{registry}/") else f"{registry}/{repository}"
    try:
        parsed = parse_image(repository)
    except BlueprintInvalid as error:
        raise fields.refuse("image", str(error)) from error
    return ImageChoice(parsed.version, repository)


def _startup(top: Fields) -> tuple[str | tuple[str, ...] | None, Fields]:
    found = top.raw("startup")
    if found is None or isinstance(found, Mapping):
        fields = top.object("startup")
        return _command(fields, "command"), fields
    return _command(top, "startup"), top.object("-")


def _command(fields: Fields, key: str) -> str | tuple[str, ...] | None:
    found = fields.raw(key)
    if isinstance(found, list):
        if not all(isinstance(word, str) and "\0" not in word for word in found):
            raise fields.refuse(key, "must hold strings only")
        return tuple(str(word) for word in found) or None
    return fields.text(key, "", most=COMMAND_MOST, lines=True).strip() or None


def _workdir(startup: Fields) -> str:
    found = startup.text("workdir", "", most=1024)
    if found and not _is_plain_path(found):
        raise startup.refuse("workdir", "must be an absolute path without . and ..")
    return found


def _is_plain_path(path: str) -> bool:
    return path.startswith("/") and not {".", ".."} & set(path.split("/")) and "//" not in path and ":" not in path


def _ready(fields: Fields) -> ReadyCheck:
    check = fields.object("readyCheck")
    if not fields.has("readyCheck"):
        return ReadyCheck()
    kind = ReadyKind(check.choice("type", "log", [kind.value for kind in ReadyKind]))
    return ReadyCheck(
        kind=kind,
        patterns=_patterns(check) if kind is ReadyKind.LOG else (),
        timeout=check.number("timeout", TIMEOUT_DEFAULT, 0, _SECONDS_MOST),
        port=check.integer("port", 0, 0, _PORT_MOST),
        path=check.text("path", "/", most=2048),
    )


def _patterns(check: Fields) -> tuple[LinePattern, ...]:
    key = "patterns" if check.has("patterns") else "pattern"
    found = check.raw(key)
    texts = check.items(key, most=PATTERNS_MOST) if isinstance(found, list) else [check.text(key)]
    for text in texts:
        if not isinstance(text, str) or not text:
            raise check.refuse(key, "must be a regular expression, or several in a list")
        try:
            compile_pattern(text, work=work_of_each(len(texts)))
        except BadPattern as error:
            raise check.refuse(key, f"{text!r:.80} {error}") from error
    if not texts:
        raise check.refuse(key, "must not be empty")
    return tuple(LinePattern(str(text), regex=True) for text in texts)


def _limits(resources: Fields) -> Limits:
    def mb(key: str, low: int = 0) -> int | None:
        return resources.integer(key, None, low, _MB_MOST) if resources.has(key) else None

    memory = mb("memory")
    if memory and memory < MEMORY_FLOOR_MB:
        raise resources.refuse("memory", f"must be at least {MEMORY_FLOOR_MB} MB (0: no limit), not {memory}")
    return Limits(
        memory_mb=memory,
        swap_mb=mb("swap", -1),
        cpu=resources.number("cpu", None, 0, 4096) if resources.has("cpu") else None,
        disk_mb=mb("disk"),
        pids=resources.integer("pids", None, 0, 1 << 22) if resources.has("pids") else None,
    )


def _ports(top: Fields) -> list[Fields]:
    found = top.items("ports", most=1000)
    wrapped: list[Json] = [{"container": item} if isinstance(item, int) else item for item in found]
    return Fields({"ports": wrapped}, BlueprintInvalid).objects("ports")


def _port(port: Fields) -> PortHint:
    return PortHint(
        container=port.integer("container", None, 1, _PORT_MOST),
        protocol=port.choice("protocol", "both", ("tcp", "udp", "both")),
        description=port.text("description", "", most=1024),
    )


def _variables(top: Fields) -> tuple[Variable, ...]:
    key = "environment" if top.has("environment") else "variables"
    if isinstance(top.raw(key), Mapping):
        found: list[Json] = [{"key": name, "default": value} for name, value in top.mapping(key).items()]
        listed = Fields({key: found}, BlueprintInvalid).objects(key)
    else:
        listed = top.objects(key)
    variables = tuple(_variable(fields) for fields in listed)
    seen: set[str] = set()
    for variable in variables:
        if variable.key in seen:
            raise top.refuse(key, f"{variable.key} stands there twice")
        seen.add(variable.key)
    return variables


def _variable(fields: Fields) -> Variable:
    name_key = "key" if fields.has("key") else "name"
    key = fields.text(name_key, most=256)
    if not VARIABLE_KEY.fullmatch(key):
        raise fields.refuse(name_key, f"must be letters, digits and _ with no digit first, not {key!r:.80}")
    return Variable(
        key=key,
        env=key,
        default=_default(fields),
        rules=_rules(fields),
        name=fields.text("label", "", most=1024) or (fields.text("name", "", most=1024) if name_key == "key" else ""),
        description=fields.text("description", "", most=65536, lines=True),
        user_viewable=fields.boolean("userViewable", True),
        user_editable=fields.boolean("userConfigurable", fields.boolean("userEditable", True)),
    )


def _default(fields: Fields) -> str:
    found = fields.raw("default")
    if isinstance(found, bool):
        return "true" if found else "false"
    return fields.text("default", "", most=65536)


_TYPE_RULES = {
    "number": "numeric", "numeric": "numeric", "float": "numeric", "integer": "integer", "int": "integer",
    "boolean": "boolean", "bool": "boolean", "url": "url", "port": "between:1,65535",
}  # fmt: skip


def _rules(fields: Fields) -> tuple[str, ...]:
    """`rules`, and what `required`, `type` and `options` say in other words."""
    found = fields.raw("rules")
    if found is not None and not isinstance(found, str | list):
        raise fields.refuse("rules", f"must be a string or a list, not {kind_of(found)}")
    rules = list(split_rules(found))
    names = {rule.partition(":")[0] for rule in rules}
    kind = fields.text("type", "")
    added = ["integer", _TYPE_RULES[kind]] if kind == "port" else [_TYPE_RULES[kind]] if kind in _TYPE_RULES else []
    if options := [str(option) for option in fields.items("options") if isinstance(option, str | int | float)]:
        added.append("in:" + ",".join(options))
    if fields.boolean("required", False):
        added.insert(0, "required")
    elif "required" not in names and "nullable" not in names:
        added.insert(0, "nullable")
    return tuple([rule for rule in added if rule.partition(":")[0] not in names] + rules)


def _volumes(top: Fields) -> tuple[Volume, ...]:
    volumes: list[Volume] = []
    for fields in top.objects("volumes", most=64):
        path = fields.text("container", most=1024).rstrip("/")
        if not path or not _is_plain_path(path) or _is_systems(path):
            raise fields.refuse("container", "must be an absolute path without . and .., and not the system's own")
        if any(volume.container == path for volume in volumes):
            raise fields.refuse("container", f"{path} stands there twice")
        volumes.append(
            Volume(
                container=path,
                subfolder=_subfolder(path, volumes[0].container) if volumes else "",
                description=fields.text("description", "", most=1024),
                backup=fields.boolean("backup", True),
            )
        )
    folders = [volume.subfolder for volume in volumes]
    if len(set(folders)) != len(folders):
        raise top.refuse("volumes", "two of them would share one folder")
    return tuple(volumes) or (Volume(NATIVE_ROOT),)


def _is_systems(path: str) -> bool:
    top = PurePosixPath(path).parts[1]
    return top in ("proc", "sys", "dev") or path in ("/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/tmp")  # noqa: S108 -- a path in the container


def _subfolder(path: str, root: str) -> str:
    """The folder under the root: its own place where it lies in the root, else its path in one word."""
    if path.startswith(f"{root}/"):
        return path[len(root) + 1 :]
    return path.strip("/").replace("/", "_")


def _install(top: Fields) -> InstallPlan | None:
    fields = top.object("install") if top.has("install") else top.object("scripts")
    if not top.has("install"):
        if isinstance(fields.raw("install"), str):
            fields = Fields({"script": fields.raw("install")}, BlueprintInvalid, "scripts.install")
        else:
            fields = fields.object("install")
    script = fields.text("script", "", most=SCRIPT_MOST, lines=True).replace("\r\n", "\n")
    if not script.strip():
        return None
    image = fields.text("image", fields.text("container", ""))
    if image:
        _checked_image(fields, image)
    return InstallPlan(
        image=image,
        script=script,
        entrypoint=_entrypoint(fields),
        timeout=fields.number("timeout", 1800, 1, _SECONDS_MOST),
        root=fields.boolean("root", False),
    )


def _checked_image(fields: Fields, image: str) -> None:
    try:
        parse_image(image)
    except BlueprintInvalid as error:
        raise fields.refuse("image", str(error)) from error


def _entrypoint(fields: Fields) -> tuple[str, ...]:
    found = _command(fields, "entrypoint")
    if found is None:
        return ("sh",)
    return tuple(found.split()) if isinstance(found, str) else found


def _config_file(fields: Fields) -> ConfigFile:
    name = fields.text("parser").lower()
    if name not in PARSER_NAMES:
        raise fields.refuse("parser", f"must be one of {', '.join(sorted(PARSER_NAMES))}, not {name!r:.40}")
    key = "replace" if fields.has("replace") else "find"
    replacements: list[Replacement] = []
    for place, value in fields.mapping(key).items():
        if isinstance(value, Mapping):
            replacements += [Replacement(place, to, str(current)) for current, to in value.items()]
        else:
            replacements.append(Replacement(place, value))
    return ConfigFile(
        path=_file_path(fields),
        parser=parser_name(name),
        replacements=tuple(replacements),
        create=fields.boolean("create", True),
    )


def _file_path(fields: Fields) -> str:
    key = "path" if fields.has("path") else "file"
    found = fields.text(key, most=1024).lstrip("/")
    if not found or ".." in found.split("/"):
        raise fields.refuse(key, "must be a path below the server's root")
    return found


def _crash(fields: Fields) -> CrashPolicy:
    default = CrashPolicy()
    return CrashPolicy(
        restart=fields.boolean("restart", default.restart),
        limit=fields.integer("limit", default.limit, 0, 1000),
        window=fields.number("window", default.window, 1, _SECONDS_MOST),
        on_clean_exit=fields.boolean("onCleanExit", default.on_clean_exit),
    )


def _version(fields: Fields) -> VersionChoice:
    return VersionChoice(
        tag=fields.text("tag", most=128),
        name=fields.text("name", "", most=256),
        recommended=fields.boolean("recommended", False),
    )
