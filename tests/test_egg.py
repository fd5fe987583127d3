"""Eggs of every version, the twelve real ones among them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import Blueprint, Feature, ImageChoice, Replacement, Volume, parse_blueprint
from stellarstack.core.documents import load_text
from stellarstack.core.messages import Json
from stellarstack.core.ready import LinePattern, ReadyKind
from stellarstack.core.stop import StopKind, StopMethod
from stellarstack.errors import BlueprintInvalid

EGGS = Path(__file__).parent / "eggs"


def document(name: str) -> Mapping[str, Json]:
    return load_text((EGGS / name).read_text(encoding="utf-8"), name)


def egg(name: str) -> Blueprint:
    return parse_blueprint(document(name), default_id=name.partition(".")[0])


def made(**keys: Any) -> Blueprint:
    base: dict[str, Any] = {
        "meta": {"version": "PTDL_v2"}, "name": "Test", "docker_images": {"One": "a/b:1"}, "startup": "./x",
        "config": {"files": "{}", "startup": '{"done": "Done"}', "logs": "{}", "stop": "stop"}, "variables": [],
    }  # fmt: skip
    return parse_blueprint({**base, **keys})


class RealEggTests(SynchronousTestCase):
    def test_all_import(self) -> None:
        """Each of the twelve eggs is read, keeps all of its variables, and comes back from the store as it was."""
        names = sorted(path.name for path in EGGS.glob("egg-*.json"))
        self.assertEqual(len(names), 12)
        for name in names:
            found, raw = egg(name), json.loads((EGGS / name).read_text())
            self.assertTrue(found.egg)
            self.assertEqual(
                [item.key for item in found.variables], [item["env_variable"] for item in raw["variables"]]
            )
            self.assertEqual(found.startup, raw["startup"])
            self.assertEqual([item.image for item in found.images], list(raw["docker_images"].values()))
            self.assertEqual(found.install and "\r" in found.install.script, False)
            self.assertEqual(found.install and found.install.image, raw["scripts"]["installation"]["container"])
            self.assertEqual(found.volumes, (Volume("/home/container"),))
            self.assertEqual(Blueprint.from_json(json.loads(json.dumps(found.to_json()))), found)

    def test_stops(self) -> None:
        """Each egg's way to stop is what its author meant."""
        control = StopMethod(StopKind.CONTROL, "C")
        for name, stop in {
            "egg-paper": "stop", "egg-curse-forge-generic": "stop", "egg-waterfall": "end",
            "egg-open-t-t-d-server": "exit",
            "egg-minetest": "/shutdown", "egg-grand-theft-auto-connected": "quit", "egg-rust-autowipe": "quit",
            "egg-lavalink": None, "egg-postgres16": None, "egg-valheim": None, "egg-arma-reforger": None,
            "egg-node-js-generic": None,
        }.items():  # fmt: skip
            expected = StopMethod(StopKind.COMMAND, stop) if stop else control
            self.assertEqual(egg(f"{name}.json").stop, expected, name)

    def test_done(self) -> None:
        """Each egg's `done` is taken as plain text, a list as any of its texts."""
        for name, texts in {
            "egg-paper": [")! For help, type "], "egg-minetest": [" Server for gameid"],
            "egg-open-t-t-d-server": ["[net] Map generated, starting game"], "egg-waterfall": ["Listening on "],
            "egg-node-js-generic": ["change this text 1", "change this text 2"],
        }.items():  # fmt: skip
            found = egg(f"{name}.json").ready
            self.assertEqual((found.kind, found.patterns), (ReadyKind.LOG, tuple(LinePattern(text) for text in texts)))

    def test_variables(self) -> None:
        """Names keep their spelling and go to the container in capitals; rules and flags are read."""
        name = egg("egg-open-t-t-d-server.json").variable("srv_name")
        self.assertEqual(
            name and (name.env, name.default, name.rules),
            ("SRV_NAME", "OpenTTD Server", ("required", "string", "max:20")),
        )
        jar = egg("egg-paper.json").variable("SERVER_JARFILE")
        self.assertEqual(jar and jar.rules, ("required", r"regex:/^([\w\d._-]+)(\.jar)$/"))
        hidden = egg("egg-paper.json").variable("DL_PATH")
        self.assertEqual(hidden and (hidden.user_viewable, hidden.user_editable), (False, False))

    def test_config_files(self) -> None:
        """Conditional, typed and indexed replacements come through in order."""
        waterfall = egg("egg-waterfall.json").config_files[0]
        self.assertEqual((waterfall.path, waterfall.parser), ("config.yml", "yaml"))
        self.assertEqual(
            waterfall.replacements,
            (
                Replacement("listeners[0].host", "0.0.0.0:{{server.build.default.port}}"),
                Replacement("servers.*.address", "{{config.docker.interface}}", "127.0.0.1"),
                Replacement("servers.*.address", "{{config.docker.interface}}", "localhost"),
            ),
        )
        self.assertEqual(egg("egg-lavalink.json").config_files[0].parser, "yaml")
        self.assertIs(egg("egg-arma-reforger.json").config_files[0].replacements[-1].value, True)
        self.assertEqual(egg("egg-open-t-t-d-server.json").config_files[0].replacements[2].value, 0)


class VersionTests(SynchronousTestCase):
    def test_ptdl_v1(self) -> None:
        """The oldest form: a list of images, an absolute path, `userInteraction`, and "" for a list."""
        found = egg("ptdl_v1.json")
        self.assertEqual(found.images[0], ImageChoice("quay.io/example/core:java", "quay.io/example/core:java"))
        self.assertEqual(found.config_files[0].path, "properties/server.properties")
        self.assertEqual(found.config_files[0].replacements[1], Replacement("gamemode", "{{env.MODE}}"))
        self.assertEqual(found.stop, StopMethod(StopKind.CONTROL, "C"))
        self.assertEqual(found.file_denylist, ())
        self.assertEqual(found.install and found.install.script, "#!/bin/ash\ncd /mnt/server\nexit 3\n")
        self.assertTrue(found.variables[0].user_editable)
        self.assertFalse(found.variables[1].user_editable)
        single = parse_blueprint({"meta": {"version": "PTDL_v1"}, "name": "x", "image": "~a/b:1"})
        self.assertEqual(single.images, (ImageChoice("~a/b:1", "a/b:1"),))

    def test_plcn_v1(self) -> None:
        """Pelican's first: objects instead of strings, lists of rules and patterns, a map of features."""
        found = egg("plcn_v1.json")
        self.assertEqual(found.ready.patterns, (LinePattern("Done"), LinePattern("^Ready in [0-9.]+s$", True)))
        self.assertEqual(found.features[0], Feature("eula", ("agree to the eula",)))
        self.assertEqual(found.stop, StopMethod(StopKind.SIGNAL, "SIGINT"))
        self.assertFalse(found.config_files[0].create)
        self.assertEqual(found.variables[0].rules, ("required", "string", "max:20"))

    def test_plcn_v2(self) -> None:
        """Everything that can be empty, null or a list where an object is meant."""
        found = egg("plcn_v2.json")
        self.assertEqual(found.images, (ImageChoice("ghcr.io/example/yolks:java_17", "ghcr.io/example/yolks:java_17"),))
        self.assertEqual((found.ready.kind, found.install, found.config_files), (ReadyKind.NONE, None, ()))
        self.assertEqual(found.stop, StopMethod(StopKind.SIGNAL, "SIGTERM"))

    def test_plcn_v3(self) -> None:
        """YAML with several startup commands, of which the first counts."""
        found = egg("plcn_v3.yaml")
        self.assertEqual(found.startup, "./server --port {{SERVER_PORT}}")
        self.assertEqual([item.label for item in found.startups], ["Default", "Debug"])
        self.assertEqual([item.label for item in found.images], ["Debian", "Alpine"])
        self.assertEqual(found.config_files[0].replacements[1], Replacement("server.public", True))
        self.assertEqual(found.install and found.install.script, "echo one\necho two")
        self.assertEqual(found.variables[0].rules, ("required", "in:world,other"))

    def test_unknown_versions(self) -> None:
        """A version that nobody knows is refused by its name."""
        for version in ["PTDL_v3", "PLCN_v9", "", None, 2]:
            error = self.assertRaises(BlueprintInvalid, made, meta={"version": version})
            self.assertTrue(str(error).startswith("meta.version"), error)


class ToleranceTests(SynchronousTestCase):
    def test_images(self) -> None:
        """`images` inside a v2 egg, maps and lists, and blanks around names are taken."""
        self.assertEqual(made(docker_images=None, images=["x/y:1"]).images, (ImageChoice("x/y:1", "x/y:1"),))
        self.assertEqual(made(docker_images={" A ": " a/b ", "N": None}).images, (ImageChoice("A", "a/b"),))
        self.assertEqual(made(docker_images=[]).images, ())

    def test_config_shapes(self) -> None:
        """config and its parts may be strings, objects, empty lists, "" or null; `done` a text, a list or null."""
        for startup, patterns in [
            ('{"done": "a"}', ["a"]), ({"done": "a"}, ["a"]), ({"done": ["a", "b"]}, ["a", "b"]), ("", []), (None, []),
            ("[]", []), ({"done": ""}, [""]), ('{"done": "x", "done": "y"}', ["y"]), ('{\r\n "done": "a"\r\n}', ["a"]),
            ("null", []), ({"done": [1, "a"]}, ["a"]),
        ]:  # fmt: skip
            found = made(config={"startup": startup, "stop": None, "files": None}).ready
            self.assertEqual([pattern.text for pattern in found.patterns], patterns)
        self.assertEqual(made(config=json.dumps({"stop": "end"})).stop, StopMethod(StopKind.COMMAND, "end"))
        self.assertEqual(made(config=[], scripts=[]).config_files, ())

    def test_file_denylist_and_features(self) -> None:
        """null and "" are empty lists; lists and maps are taken."""
        self.assertEqual(made(file_denylist="").file_denylist, ())
        self.assertEqual(made(file_denylist=None).file_denylist, ())
        self.assertEqual(made(file_denylist=["PalServer.sh"]).file_denylist, ("PalServer.sh",))
        self.assertEqual(made(file_denylist={"0": "forgejo"}).file_denylist, ("forgejo",))
        self.assertEqual(made(features=["eula", 5]).features, (Feature("eula"),))
        self.assertEqual(made(features={"eula": ["a", 1], "b": None}).features, (Feature("eula", ("a",)), Feature("b")))

    def test_config_file_shapes(self) -> None:
        """Entries without `find` only make their file, unknown parsers too; blanks in names are kept."""
        files = {
            "./Risk of Rain 2_Data/a.cfg": {"parser": "file", "find": {"x": ""}},
            "/.local/b": {"parser": "YML", "find": []},
            "c": {"parser": "hocon", "find": {"a": "b"}},
            "d": "nothing",
        }
        found = made(config={"files": files}).config_files
        self.assertEqual(
            [(item.path, item.parser, len(item.replacements)) for item in found],
            [("Risk of Rain 2_Data/a.cfg", "file", 1), (".local/b", "yaml", 0), ("c", "file", 0)],
        )

    def test_variable_shapes(self) -> None:
        """Numbers, booleans and null as defaults, lists of rules, a repeated variable and odd names are taken."""

        def variable(name: str, **keys: Any) -> dict[str, Any]:
            return {"name": "", "env_variable": name, **keys}

        found = made(
            variables=[
                variable("A", default_value=5), variable("B", default_value=None), variable("C", default_value=True),
                variable("Version", default_value="x", rules=["required", "max:3"]),
                variable("A", default_value="last"), variable("with-dash", default_value="", rules=None),
            ]
        ).variables  # fmt: skip
        self.assertEqual(
            [(item.key, item.env, item.default) for item in found],
            [
                ("A", "A", "last"),
                ("B", "B", ""),
                ("C", "C", "1"),
                ("Version", "VERSION", "x"),
                ("with-dash", "WITH-DASH", ""),
            ],
        )

    def test_ids(self) -> None:
        """An egg's id is the file's name, its uuid, or made from its name, whatever the alphabet."""
        self.assertEqual(made(name="Garry's Mod!").id, "garry-s-mod")
        self.assertEqual(made(uuid="1f0a7a51-5d4e-4a73-8b4e-2f6d6f0f6f10").id, "1f0a7a51-5d4e-4a73-8b4e-2f6d6f0f6f10")
        self.assertTrue(made(name="我的世界").id.startswith("blueprint-"))
        self.assertEqual(made(name="").id, "egg")

    def test_startups(self) -> None:
        """A missing startup is an empty one, and several lines are one."""
        self.assertEqual(made(startup=None).startup, "")
        self.assertEqual(made(startup="if a; then\n b\nfi").startup, "if a; then\n b\nfi")
        self.assertEqual(made(startup=None, startup_commands=["./a", "./b"]).startup, "./a")

    def test_install(self) -> None:
        """An entrypoint with words is split, a missing one is bash, and an empty script is no install."""

        def plan(**keys: Any) -> Any:
            return made(scripts={"installation": keys}).install

        self.assertEqual(plan(script="x", entrypoint="/bin/bash -e").entrypoint, ("/bin/bash", "-e"))
        self.assertEqual(plan(script="x").entrypoint, ("bash",))
        self.assertIsNone(plan(script=" \r\n"))
        self.assertTrue(plan(script="x").root)


class RefusalTests(SynchronousTestCase):
    def test_each_names_its_key(self) -> None:
        """What has no sense is refused by the name of its key."""
        for key, document_keys in [
            ("config.files: has no JSON in it", {"config": {"files": "{"}}),
            ("config.startup: must be an object", {"config": {"startup": "[1]"}}),
            ("config: must be an object", {"config": 5}),
            ("variables[0].env_variable", {"variables": [{"env_variable": "A=B"}]}),
            ("variables[0]: must be an object", {"variables": ["A"]}),
            ("startup: is over", {"startup": "x" * (1 << 20) + "x"}),
        ]:  # fmt: skip
            error = self.assertRaises(BlueprintInvalid, made, **document_keys)  # type: ignore[arg-type]
            self.assertTrue(str(error).startswith(key), error)

    def test_names_that_lead_elsewhere(self) -> None:
        """P05: parsers are looked up in a closed list and files stay below the root."""
        for parser in ["../../etc/passwd", "/etc/passwd", "file\0", "ﬁle", "a∕b", "yaml.load"]:
            self.assertRaises(BlueprintInvalid, made, config={"files": {"a": {"parser": parser, "find": {"b": "c"}}}})
        for path in ["../a", "a/../../b", "/", "a\0b", "x" * 5000]:
            self.assertRaises(BlueprintInvalid, made, config={"files": {path: {"parser": "file", "find": {}}}})

    def test_bombs(self) -> None:
        """W19: JSON inside of strings is bounded like all else."""
        self.assertRaises(BlueprintInvalid, made, config={"files": "[" * 100_000})
