"""Native blueprints, in both shapes that are in use."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import (
    Blueprint,
    ConfigFile,
    InstallPlan,
    Limits,
    PortHint,
    Replacement,
    Variable,
    VersionChoice,
    Volume,
    parse_blueprint,
)
from stellarstack.core.crash import CrashPolicy
from stellarstack.core.ready import LinePattern, ReadyCheck, ReadyKind
from stellarstack.core.stop import StopKind, StopMethod
from stellarstack.errors import BlueprintInvalid

ECHO: dict[str, Any] = {
    "id": "echo", "name": "Echo", "description": "", "version": "1",
    "docker": {"image": "repo", "tag": "latest", "registry": "", "stop_command": "stop", "stop_timeout": 30},
    "resources": {"memory": 512, "swap": 0, "cpu": 1.0, "disk": 1024, "pids": 256},
    "ports": [{"container": 25565, "protocol": "tcp", "description": "game"}],
    "environment": [
        {"key": "MOTD", "default": "hi", "description": "", "required": False, "userConfigurable": True,
         "rules": "string|max:60"},
        {"key": "PORT", "default": "25565", "required": True},
    ],
    "volumes": [{"container": "/data", "description": "", "backup": True}],
    "startup": {"command": "./game --port {{PORT}}", "readyCheck": {"type": "log", "pattern": "Done", "timeout": 300}},
    "install": {"image": "repo:tag", "entrypoint": "bash", "script": "echo a\r\necho b", "timeout": 1800},
    "configFiles": [
        {"path": "server.properties", "parser": "properties", "create": True,
         "replace": {"server-port": "{{server.port}}"}}
    ],
    "crash": {"restart": True, "limit": 3, "window": 600},
    "versions": [{"tag": "1.20.4", "name": "1.20.4", "recommended": True}],
}  # fmt: skip


def changed(**keys: Any) -> dict[str, Any]:
    return {**ECHO, **keys}


class ProtocolShapeTests(SynchronousTestCase):
    def test_the_example(self) -> None:
        """PROTOCOL 12's own example is read to the letter."""
        found = parse_blueprint(ECHO)
        self.assertEqual((found.id, found.name, found.version, found.egg), ("echo", "Echo", "1", False))
        self.assertEqual(found.images[0].image, "repo:latest")
        self.assertEqual(found.stop, StopMethod(StopKind.COMMAND, "stop"))
        self.assertEqual(found.stop_timeout, 30)
        self.assertEqual(found.limits, Limits(512, 0, 1.0, 1024, 256))
        self.assertEqual(found.ports, (PortHint(25565, "tcp", "game"),))
        self.assertEqual(
            found.variables,
            (
                Variable("MOTD", "MOTD", "hi", ("nullable", "string", "max:60")),
                Variable("PORT", "PORT", "25565", ("required",)),
            ),
        )
        self.assertEqual(found.volumes, (Volume("/data"),))
        self.assertEqual(found.startup, "./game --port {{PORT}}")
        self.assertEqual(found.ready, ReadyCheck(ReadyKind.LOG, (LinePattern("Done", True),), 300))
        self.assertEqual(found.install, InstallPlan("repo:tag", "echo a\necho b", ("bash",), 1800))
        self.assertEqual(
            found.config_files,
            (ConfigFile("server.properties", "properties", (Replacement("server-port", "{{server.port}}"),)),),
        )
        self.assertEqual(found.crash, CrashPolicy(True, 3, 600))
        self.assertEqual(found.versions, (VersionChoice("1.20.4", "1.20.4", True),))

    def test_the_other_shape(self) -> None:
        """`variables` with name, type and options, and `scripts.install`, mean environment and install."""
        found = parse_blueprint(
            {
                "id": "x", "docker": {"image": "r.io/a/b:1"},
                "variables": [
                    {"name": "MODE", "default": "easy", "required": True, "options": ["easy", "hard"]},
                    {"name": "SLOTS", "default": 8, "type": "number", "rules": ["max:64"]},
                    {"name": "QUERY", "default": True, "type": "boolean"},
                    {"name": "RCON", "type": "port"},
                ],
                "scripts": {"install": {"image": "i:1", "script": "true"}},
            }
        )  # fmt: skip
        self.assertEqual(
            [(item.key, item.default, item.rules) for item in found.variables],
            [
                ("MODE", "easy", ("required", "in:easy,hard")),
                ("SLOTS", "8", ("nullable", "numeric", "max:64")),
                ("QUERY", "true", ("nullable", "boolean")),
                ("RCON", "", ("nullable", "integer", "between:1,65535")),
            ],
        )
        self.assertEqual(found.install, InstallPlan("i:1", "true", ("sh",), 1800))

    def test_smallest(self) -> None:
        """An image is all that is needed; the rest has defaults."""
        found = parse_blueprint({"name": "Just This!", "image": "a/b"})
        self.assertEqual(found, Blueprint(id="just-this", name="Just This!", images=found.images))
        self.assertEqual(found.images[0].image, "a/b")
        self.assertEqual(found.root, "/data")

    def test_more_spellings(self) -> None:
        """Short forms of script, ports, environment and startup are read too."""
        found = parse_blueprint(
            {
                "docker": {"image": "a"}, "scripts": {"install": "make"},
                "ports": [1, {"container": 2, "protocol": "udp"}],
                "environment": {"A": "1", "B": None}, "startup": ["./run", "--x"], "readyCheck": {"pattern": "up"},
                "stop_command": "^C",
            },
            default_id="file",
        )  # fmt: skip
        self.assertEqual(found.id, "file")
        self.assertEqual(found.install and found.install.script, "make")
        self.assertEqual(found.ports, (PortHint(1), PortHint(2, "udp")))
        self.assertEqual([(item.key, item.default) for item in found.variables], [("A", "1"), ("B", "")])
        self.assertEqual(found.startup, ("./run", "--x"))
        self.assertEqual(found.ready.patterns, (LinePattern("up", True),))
        self.assertEqual(found.stop, StopMethod(StopKind.CONTROL, "C"))

    def test_images(self) -> None:
        """Repository, tag and registry make one name; a tag in the image stays."""
        for docker, image in [
            ({"image": "a", "tag": "1"}, "a:1"),
            ({"image": "a:2", "tag": "1"}, "a:2"),
            ({"image": "a"}, "a"),
            ({"image": "h:5000/a", "tag": "1"}, "h:5000/a:1"),
            ({"image": "a", "registry": "https://r.io/"}, "r.io/a"),
            ({"image": "r.io/a", "registry": "r.io"}, "r.io/a"),
            ({"image": "a@sha256:" + "0" * 64, "tag": "latest"}, "a@sha256:" + "0" * 64),
        ]:
            self.assertEqual(parse_blueprint(changed(docker=docker)).images[0].image, image)

    def test_ready_kinds(self) -> None:
        """Every kind of ready check is read, and several patterns are."""
        for check, expected in [
            ({"type": "port", "port": 80, "timeout": 5}, ReadyCheck(ReadyKind.PORT, (), 5, 80)),
            ({"type": "http", "path": "/up"}, ReadyCheck(ReadyKind.HTTP, path="/up")),
            ({"type": "none"}, ReadyCheck()),
            ({"patterns": ["a", "b"]}, ReadyCheck(ReadyKind.LOG, (LinePattern("a", True), LinePattern("b", True)))),
            (None, ReadyCheck()),
        ]:  # fmt: skip
            found = parse_blueprint(changed(startup={"command": "x", "readyCheck": check}))
            self.assertEqual(found.ready, expected)

    def test_volumes(self) -> None:
        """W09: the first volume is the root, further ones are folders below it, and none names a place of the host."""
        found = parse_blueprint(
            changed(
                volumes=[{"container": "/srv/game/"}, {"container": "/srv/game/world"}, {"container": "/var/log/game"}]
            )
        )
        self.assertEqual(
            found.volumes,
            (Volume("/srv/game"), Volume("/srv/game/world", "world"), Volume("/var/log/game", "var_log_game")),
        )

    def test_round_trip(self) -> None:
        """What the store keeps is read back as it was."""
        found = parse_blueprint(changed(docker={"image": "a", "stop_command": "^C"}))
        self.assertEqual(Blueprint.from_json(json.loads(json.dumps(found.to_json()))), found)
        self.assertRaises(BlueprintInvalid, Blueprint.from_json, {"id": 1})


class RefusalTests(SynchronousTestCase):
    def assert_refused(self, document: Any, key: str) -> None:
        error = self.assertRaises(BlueprintInvalid, parse_blueprint, document)
        self.assertTrue(str(error).startswith(key), f"{error} does not begin with {key}")
        self.assertNotIn("\n", str(error))

    def test_each_names_its_key(self) -> None:
        """What does not fit is refused by the name of its key."""
        rows: list[tuple[str, Any]] = [
            ("id", changed(id="../x")),
            ("id", changed(id=".x")),
            ("id", {"docker": {"image": "a"}}),
            ("name", changed(name=["x"])),
            ("docker: must be an object", changed(docker="repo")),
            ("docker.image: is missing", changed(docker={})),
            ("docker.stop_timeout", changed(docker={"image": "a", "stop_timeout": -1})),
            ("resources.memory", changed(resources={"memory": "much"})),
            ("resources.memory", changed(resources={"memory": 1.5})),
            ("resources.memory: must be at least 6 MB", changed(resources={"memory": 5})),
            ("resources.cpu", changed(resources={"cpu": float("nan")})),
            ("resources.pids", changed(resources={"pids": True})),
            ("ports[0].container", changed(ports=[{"container": 70000}])),
            ("ports[0].protocol", changed(ports=[{"container": 7, "protocol": "sctp"}])),
            ("ports: must be a list", changed(ports={})),
            ("environment[0].key", changed(environment=[{"key": "A=B"}])),
            ("environment[0].key", changed(environment=[{"key": "1A"}])),
            ("environment[0].default", changed(environment=[{"key": "A", "default": "x\ny"}])),
            ("environment[0].label", changed(environment=[{"key": "A", "label": "x\0y"}])),
            ("environment[0].description", changed(environment=[{"key": "A", "description": "x" * 70_000}])),
            ("startup.workdir", changed(startup={"command": "x", "workdir": "/a:b"})),
            ("scripts.install.image", {"id": "x", "image": "a", "scripts": {"install": {"script": "x", "image": "A"}}}),
            ("crash: must be an object", changed(crash=[])),
            ("versions: has over", changed(versions=[{"tag": "1"}] * 1001)),
            ("configFiles[0].replace", changed(configFiles=[{"path": "a", "parser": "json", "replace": {5: 1}}])),
            ("docker.stop_timeout: must be a number", changed(docker={"image": "a", "stop_timeout": "soon"})),
            ("environment[0].rules", changed(environment=[{"key": "A", "rules": 5}])),
            ("environment: A stands there twice", changed(environment=[{"key": "A"}, {"key": "A"}])),
            ("startup.command", changed(startup={"command": [1]})),
            ("startup.readyCheck.type", changed(startup={"readyCheck": {"type": "magic"}})),
            ("startup.readyCheck.pattern", changed(startup={"readyCheck": {"pattern": "("}})),
            ("startup.readyCheck.pattern", changed(startup={"readyCheck": {"type": "log"}})),
            ("startup.readyCheck.patterns", changed(startup={"readyCheck": {"patterns": []}})),
            ("startup.readyCheck.patterns", changed(startup={"readyCheck": {"patterns": ["a"] * 17}})),
            ("startup.readyCheck.pattern", changed(startup={"readyCheck": {"pattern": r"\pL{300}x"}})),
            ("startup.workdir", changed(startup={"command": "x", "workdir": "../x"})),
            ("install.image", changed(install={"script": "x", "image": "A B"})),
            ("install.timeout", changed(install={"script": "x", "timeout": 0})),
            ("configFiles[0].parser", changed(configFiles=[{"path": "a", "parser": "../../etc/passwd"}])),
            ("configFiles[0].path", changed(configFiles=[{"path": "../a", "parser": "json"}])),
            ("configFiles[0].replace", changed(configFiles=[{"path": "a", "parser": "json", "replace": []}])),
            ("crash.limit", changed(crash={"limit": -1})),
            ("crash.restart", changed(crash={"restart": "yes"})),
            ("versions[0].tag", changed(versions=[{}])),
        ]
        for key, document in rows:
            self.assert_refused(document, key)
        self.assert_refused([], "a blueprint must be an object")

    def test_image_names(self) -> None:
        """D04: what is no image name by Docker's grammar never gets as far as Docker."""
        for image in ["img;rm", "--privileged", "../x", "a" * 300, "Upper/Case", "a@sha256:short", "a b", "a:b:c", ""]:
            self.assert_refused(changed(docker={"image": image}), "docker.image")

    def test_volume_places(self) -> None:
        """W09: a volume is an absolute path of the container that is none of the system's."""
        for path in ["data", "/", "/etc", "/proc/x", "/sys", "/dev/sda", "/a/../b", "/a:/b", "/data/./x", ""]:
            self.assert_refused(changed(volumes=[{"container": path}]), "volumes[0].container")
        self.assert_refused(changed(volumes=[{"container": "/a"}, {"container": "/a"}]), "volumes[1].container")
        self.assert_refused(
            changed(volumes=[{"container": "/a"}, {"container": "/b/c"}, {"container": "/b_c"}]), "volumes: two of them"
        )

    def test_mounts_are_nobodys_key(self) -> None:
        """W08, W09: keys that would loosen a fence are not read at all."""
        found = parse_blueprint(
            changed(
                docker={"image": "a", "privileged": True, "binds": ["/:/host"], "capAdd": ["SYS_ADMIN"]},
                mounts=[{"source": "/etc", "target": "/x"}],
            )
        )  # fmt: skip
        text = json.dumps(found.to_json())
        for word in ("privileged", "/host", "SYS_ADMIN", "/etc"):
            self.assertNotIn(word, text)
