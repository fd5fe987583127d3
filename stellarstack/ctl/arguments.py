"""The grammar of stellarctl's command line, and how its words become payloads (PROTOCOL 4)."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stellarstack import __version__
from stellarstack.core.documents import load_text
from stellarstack.errors import BlueprintInvalid

DEFAULT_CONFIG = Path("/etc/stellarstack/daemon.toml")
BLUEPRINT_LIMIT = 2**20
_PORT = re.compile(
    r"(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9.]+):)??(?P<host>\d+)(?::(?P<container>\d+))?(?:/(?P<protocol>tcp|udp|both))?"
)
# What comes all the time and hides the rest.
NOISE = ("heartbeat", "server.log", "server.metrics")


class Usage(Exception):
    """The command line makes no sense: exit status 2."""


def parser() -> argparse.ArgumentParser:
    """All of stellarctl's words."""
    common = _common(argparse.SUPPRESS)
    root = argparse.ArgumentParser(
        prog="stellarctl",
        description="Runs a StellarStack node from the command line.",
        parents=[_common(None)],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 done, 1 refused or failed (one line says why), 2 wrong usage",
    )
    root.add_argument("--version", action="version", version=f"stellarctl {__version__}")
    words = root.add_subparsers(dest="word", metavar="COMMAND", required=True)
    _server(words.add_parser("server", help="create, start, stop, restart, kill, delete and list servers"), common)
    _console(words.add_parser("console", parents=[common], help="a live terminal on a server; Ctrl-] leaves"))
    _logs(words.add_parser("logs", parents=[common], help="a console's newest lines; -f follows"))
    _sessions(words, common)
    _token(words.add_parser("token", help="console tokens"), common)
    events = words.add_parser("events", parents=[common], help="what happens on the node")
    events.add_argument("-f", "--follow", action="store_true", help="go on with new events until Ctrl-C")
    which = events.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help=f"also {', '.join(NOISE)}")
    which.add_argument("--type", action="append", metavar="TYPE", help="these alone, as server.status (may repeat)")
    events.add_argument(
        "-n", "--last", type=_whole(0, 100_000), default=20, help="events of the past (20; --redis only)"
    )
    send = words.add_parser("send", parents=[common], help="any command of the protocol")
    send.add_argument("type", help="such as server.command")
    send.add_argument("fields", nargs="*", metavar="key=value", help="payload; a value that is JSON is taken as such")
    send.add_argument("--payload", metavar="JSON", help="the whole payload as a JSON object; - reads it from stdin")
    send.add_argument("--id", help="the command's id (a fresh one); the same id runs once")
    node = words.add_parser("node", help="the node itself").add_subparsers(dest="verb", metavar="VERB", required=True)
    node.add_parser("info", parents=[common], help="state, version and figures")
    _blueprint_words(words.add_parser("blueprint", help="blueprints and eggs: import, list, show, check"), common)
    words.add_parser("doctor", parents=[common], help="checks what a node needs and says how to mend it")
    acl = words.add_parser("redis-acl", parents=[common], help="prints the Redis user that fences this node in")
    acl.add_argument("--sentinel", action="store_true", help="with what Sentinel failover needs")
    return root


def _common(default: Any) -> argparse.ArgumentParser:
    """Options that stand before or after the words. SUPPRESS keeps a later parser from undoing an earlier one."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("which node")
    group.add_argument("-c", "--config", type=Path, default=default, help=f"daemon.toml ({DEFAULT_CONFIG})")
    group.add_argument("--socket", type=Path, default=default, help="control socket (the config's)")
    group.add_argument("--redis", metavar="URL", default=default, help="reach the node through Redis; needs --node")
    group.add_argument("--node", metavar="ID", default=default, help="the node's id, with --redis")
    group.add_argument("--timeout", type=float, metavar="SECONDS", default=default, help="longest wait for an answer")
    flag = default if default is argparse.SUPPRESS else False
    group.add_argument("--json", action="store_true", default=flag, help="JSON instead of text")
    return options


def _server(server: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    verbs = server.add_subparsers(dest="verb", metavar="VERB", required=True)
    create = verbs.add_parser("create", parents=[common], help="make a server from a blueprint and start it")
    create.add_argument("server")
    create.add_argument("-b", "--blueprint", required=True, help="id of an installed one, or a JSON, TOML or YAML file")
    create.add_argument("--name", help="what people call it")
    create.add_argument("--version", help="one of the blueprint's versions")
    for option, kind, what in (
        ("memory", _whole(0, 2**31), "MB"),
        ("swap", _whole(-1, 2**31), "MB"),
        ("cpu", float, "cores"),
        ("disk", _whole(0, 2**31), "MB"),
        ("pids", _whole(0, 2**22), "processes"),
    ):
        create.add_argument(f"--{option}", type=kind, metavar=what.upper(), help=f"limit, {what} (the blueprint's)")
    create.add_argument("-p", "--port", action="append", default=[], type=port, metavar="PORT",
                        help="[IP:]HOST[:CONTAINER][/tcp|/udp] (may repeat); the first is the primary one")  # fmt: skip
    create.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE", help="a blueprint's variable")
    create.add_argument("--network", metavar="NAME", help="one that it shares with other servers (a bridge of its own)")
    create.add_argument("--no-start", action="store_true", help="install it, but leave it stopped")
    create.add_argument("--skip-install", action="store_true", help="its files are there already")
    for verb, what in (
        ("start", "start it and wait until it is ready"),
        ("stop", "stop it by its own stop command"),
        ("restart", "stop, then start"),
        ("kill", "end it at once"),
        ("delete", "remove the server with its files"),
    ):
        one = verbs.add_parser(verb, parents=[common], help=what)
        one.add_argument("server")
        if verb in ("stop", "restart"):
            one.add_argument("--grace", type=float, metavar="SECONDS", help="until it is killed (the blueprint's)")
        if verb == "delete":
            one.add_argument("--keep-files", action="store_true")
            one.add_argument("--delete-backups", action="store_true")
    verbs.add_parser("list", parents=[common], help="all servers of the node")


def _console(console: argparse.ArgumentParser) -> None:
    console.add_argument("server")
    console.add_argument("--read-only", action="store_true", help="watch, type nothing; Ctrl-C leaves")
    _place(console)
    console.add_argument("--record", type=Path, metavar="FILE.cast", help="write what is shown as asciinema v2")
    console.add_argument("--force", action="store_true", help="replace the file of --record")


def _logs(logs: argparse.ArgumentParser) -> None:
    logs.add_argument("server")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what comes until Ctrl-C")
    logs.add_argument("-n", "--lines", type=_whole(0, 1_000_000), default=100, help="the last so many (100)")
    _place(logs)
    look = logs.add_mutually_exclusive_group()
    look.add_argument("--plain", action="store_true", help="no colours, in a terminal either")
    look.add_argument("--color", action="store_true", help="colours, into a file too")


def _place(console: argparse.ArgumentParser) -> None:
    console.add_argument(
        "--since", type=_whole(0, 2**53), metavar="BYTE", help="begin at this offset of the output; 0: all that is kept"
    )
    console.add_argument("--url", metavar="ws://HOST:PORT", help="where the console listens (the config's [server])")


def _sessions(words: Any, common: argparse.ArgumentParser) -> None:
    sessions = words.add_parser("sessions", parents=[common], help="who watches and types")
    sessions.add_argument("server", nargs="?", help="of this server only")
    revoke = words.add_parser("revoke", parents=[common], help="end console sessions and the tokens behind them")
    revoke.add_argument("--jti", metavar="ID", help="of this token")
    revoke.add_argument("--user", metavar="ID", help="of this user")
    revoke.add_argument("--server", metavar="ID", help="of this server; several together: only what fits all")


def _token(token: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    verbs = token.add_subparsers(dest="verb", metavar="VERB", required=True)
    mint = verbs.add_parser("mint", parents=[common], help="make a console token for one server")
    mint.add_argument("server")
    mint.add_argument("--user", help="whom the audit names")
    may = mint.add_mutually_exclusive_group()
    default = "console.read, console.write and stats.read"
    may.add_argument("--permission", action="append", metavar="NAME", help=f"this one (may repeat; {default})")
    may.add_argument("--all", action="store_true", help="every permission, files and power too")
    mint.add_argument("--link", action="store_true", help="print a link that opens the web console")
    mint.add_argument("--url", metavar="https://HOST", help="of --link: where people reach this node (its [server])")
    mint.add_argument("--lifetime", type=_whole(1, 310), metavar="SECONDS", help="at most 310 (300)")


def _blueprint_words(blueprint: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    verbs = blueprint.add_subparsers(dest="verb", metavar="VERB", required=True)
    take = verbs.add_parser("import", parents=[common], help="install files on this node, as they are")
    take.add_argument("--force", action="store_true", help="replace one of the same id that differs")
    check = verbs.add_parser("check", parents=[common], help="what the daemon understands of files; changes nothing")
    for several in (take, check):
        several.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON, TOML or YAML; native or an egg")
    verbs.add_parser("list", parents=[common], help="what is installed")
    verbs.add_parser("show", parents=[common], help="one that is installed").add_argument("id")


def _whole(low: int, high: int) -> Any:
    def whole_number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text}: allowed is {low} to {high}")
        return value

    return whole_number


def port(text: str) -> int | dict[str, Any]:
    """`25565`, `25565/udp`, `8080:80/tcp` or `192.0.2.1:8080:80` (IPv6 in []) in the form of server.create."""
    found = _PORT.fullmatch(text)
    numbers = [int(part) for part in (found["host"], found["container"]) if part] if found else []
    if found is None or not all(1 <= number <= 65535 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text}: allowed is [IP:]HOST[:CONTAINER][/tcp|/udp] with ports 1 to 65535")
    if len(numbers) == 1 and not found["ip"] and not found["protocol"]:
        return numbers[0]
    answer: dict[str, Any] = {"host": numbers[0], "container": numbers[-1], "protocol": found["protocol"] or "both"}
    if found["ip"]:
        answer["ip"] = found["ip"].strip("[]")
    return answer


def create_payload(options: argparse.Namespace) -> dict[str, Any]:
    """The payload of server.create. Raises Usage."""
    config: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("memory", "swap", "cpu", "disk", "pids", "network")
        if getattr(options, name) is not None
    }
    if options.port:
        config["ports"] = options.port
    if options.env:
        config["env"] = dict(_split(pair, "NAME=VALUE") for pair in options.env)
    payload: dict[str, Any] = {"serverId": options.server, "blueprint": _blueprint(options.blueprint), "config": config}
    for name in ("name", "version"):
        if getattr(options, name) is not None:
            payload[name] = getattr(options, name)
    if options.no_start:
        payload["start"] = False
    if options.skip_install:
        payload["skipInstall"] = True
    return payload


def send_payload(fields: Sequence[str], whole: str | None) -> dict[str, Any]:
    """The payload of `send`: `key=value` words over a JSON object. Raises Usage."""
    payload: dict[str, Any] = {}
    if whole is not None:
        try:
            payload = json.loads(whole)
        except ValueError as error:
            raise Usage(f"--payload is no JSON: {error}") from None
        if not isinstance(payload, dict):
            raise Usage("--payload must be a JSON object")
    for field in fields:
        name, text = _split(field, "key=value")
        try:
            payload[name] = json.loads(text)
        except ValueError:
            payload[name] = text
    return payload


def _split(pair: str, form: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise Usage(f"{pair!r}: allowed is {form}")
    return name, value


def _blueprint(name: str) -> Any:
    """An installed blueprint's id stays a word; a file is read and sent along."""
    path = Path(name)
    if "/" not in name and path.suffix not in (".json", ".toml", ".yaml", ".yml"):
        return name
    try:
        with path.open("rb") as file:
            raw = file.read(BLUEPRINT_LIMIT + 1)
        if len(raw) > BLUEPRINT_LIMIT:
            raise Usage(f"{path}: over {BLUEPRINT_LIMIT} bytes")
        found = load_text(raw.decode("utf-8-sig"), path.name)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror or error}") from None
    except (ValueError, BlueprintInvalid) as error:
        raise Usage(f"{path}: cannot be read as a blueprint: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict):
        raise Usage(f"{path}: a blueprint is an object")
    return found
