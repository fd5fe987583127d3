"""What the tests of config files share: values, and one way to write a row."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import Replacement
from stellarstack.core.configfiles import patch
from stellarstack.core.placeholders import Values, egg_value
from stellarstack.errors import BlueprintInvalid

PORT = "{{server.build.default.port}}"
VALUES = Values(
    "srv_1", "0.0.0.0", 25565, 512, {"NAME": "Ünïcode 😀", "EVIL": "{{config.token}} {{env.NAME}} $1"}, "", "10.0.0.1"
)
ALL = ("properties", "file", "yaml", "json", "ini", "xml", "toml")


def look_up(name: str) -> str | None:
    return egg_value(VALUES, name)


def replacements(find: dict[str, Any]) -> list[Replacement]:
    found: list[Replacement] = []
    for key, value in find.items():
        if isinstance(value, dict):
            found += [Replacement(key, to, current) for current, to in value.items()]
        else:
            found.append(Replacement(key, value))
    return found


def patched(parser: str, content: str | None, find: dict[str, Any]) -> str:
    return patch(parser, None if content is None else content.encode(), replacements(find), look_up).decode()


class Rows(SynchronousTestCase):
    parser = ""

    def check(self, content: str | None, find: dict[str, Any], expected: str) -> None:
        self.assertEqual(patched(self.parser, content, find), expected)

    def refuse(self, content: str, find: dict[str, Any]) -> str:
        return str(self.assertRaises(BlueprintInvalid, patched, self.parser, content, find))
