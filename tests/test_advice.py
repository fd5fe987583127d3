"""What is told of a blueprint that can be read, and yet may not do what its reader expects."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.advice import advice, needed_variables
from stellarstack.core.blueprint import parse_blueprint
from stellarstack.core.messages import Json


def egg(**more: Any) -> dict[str, Json]:
    """A small egg that calls for no advice."""
    return {
        "meta": {"version": "PTDL_v2"}, "name": "Game", "docker_images": {"one": "ghcr.io/x/game:1"},
        "startup": "./game {{SERVER_PORT}}", "config": {"startup": '{"done": "ready"}', "stop": "stop", "files": "{}"},
        "variables": [], "scripts": {}, **more,
    }  # fmt: skip


def native(**more: Any) -> dict[str, Json]:
    return {"id": "game", "docker": {"image": "game:1"}, "startup": {"command": "./game"}, **more}


def variable(key: str, default: str = "", rules: str = "") -> dict[str, Json]:
    return {"name": key, "env_variable": key, "default_value": default, "rules": rules}


def done(*patterns: str) -> dict[str, Json]:
    return {"startup": {"done": list(patterns)}, "stop": "stop", "files": {}}


class AdviceTests(SynchronousTestCase):
    """One kind of advice for each kind of mistake."""

    def told(self, document: dict[str, Json]) -> tuple[str, ...]:
        return advice(parse_blueprint(document, default_id="game"))

    def test_nothing_to_say(self) -> None:
        """A sound blueprint and a sound egg bring no advice."""
        self.assertEqual(self.told(egg()), ())
        self.assertEqual(self.told(native(environment=[{"key": "A", "default": "1", "rules": "required"}])), ())

    def test_each_kind(self) -> None:
        """Each of these brings one line, which names the thing."""
        files = {"startup": {}, "stop": "^C", "files": {}}
        bad_find = {"x.json": {"parser": "json", "find": {"a": "{{server.build.env.NOPE}}"}}}
        rows: list[tuple[dict[str, Json], str]] = [
            (egg(docker_images={}), "no image"),
            (egg(docker_images={"a": "ghcr.io/x/game:1", "b": "No Image"}), "'No Image' is no image name"),
            (egg(config=done("change this text 1", "change this text 2")), "placeholder that never matches"),
            (egg(config=done("No idea what to put here")), "placeholder that never matches"),
            (egg(config=done("")), "the first line"),
            (egg(config=done("regex:(unclosed")), "no expression"),
            (egg(variables=[variable("TOKEN", rules="required|string")]), "variable TOKEN"),
            (egg(variables=[variable("WORLD", "Mars", "in:Moon,Sun")]), "variable WORLD"),
            (egg(variables=[variable("a"), variable("A")]), "a and A are the same"),
            (egg(startup=""), "no command"),
            (egg(startup="./game {{CLIENT_MODS}} {{SERVER_MEMORY}}"), "{{CLIENT_MODS}}"),
            (egg(config={**files, "files": {"new.txt": {"parser": "file", "find": {}}}}), "new.txt: nothing"),
            (egg(config={**files, "files": bad_find}), "NOPE}} is not known and becomes empty"),
            (egg(config={**files, "files": {"x.json": {"parser": "json", "find": {"a": "{{config.token}}"}}}}),
             "{{config.token}} is not known and stays"),
            (egg(scripts={"installation": {"script": "true", "container": "Bad Name"}}), "install image"),
            (egg(scripts={"installation": {"script": "true"}}), "no image is named"),
            (native(startup={"command": "./game {{NOPE}}"}), "no server can be made of it: startup.command: {{NOPE}}"),
            (native(environment=[{"key": "A", "default": "a", "rules": "integer"}]), "variable A"),
        ]  # fmt: skip
        for document, words in rows:
            found = self.told(document)
            self.assertEqual(len(found), 1, (words, found))
            self.assertIn(words, found[0])

    def test_not_a_placeholder(self) -> None:
        """One real pattern among placeholders is enough, and a line that has such a word among others is real."""
        self.assertEqual(self.told(egg(config=done("change me", "Done"))), ())
        self.assertEqual(self.told(egg(config=done("Changed the map"))), ())

    def test_a_server_without_limits_is_no_mistake(self) -> None:
        """What the node's own limits decide is not told of the blueprint."""
        self.assertEqual(self.told(native(resources={"memory": 0, "cpu": 0})), ())

    def test_defaults_that_no_container_takes(self) -> None:
        """Defaults of which no server can be made are told."""
        lines = self.told(egg(variables=[variable("A", "x" * (1 << 20))]))
        self.assertEqual(len(lines), 1)
        self.assertIn("with its defaults no server can be made of it: config.env", lines[0])

    def test_needed(self) -> None:
        """The variables that each order must set are those whose default breaks a rule."""
        blueprint = parse_blueprint(egg(variables=[variable("A", "", "required"), variable("B", "", "nullable")]))
        self.assertEqual(needed_variables(blueprint), ("A",))
