"""What a tenant or a panel may try on the host's files by a server's life: links, sizes, keys that name places."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from zope.interface import implementer

from stellarstack.core.engine import EngineVersion
from stellarstack.core.messages import Json
from tests.fake_container import Program
from tests.household import CONTAINER, GAME, PowerCase

PATCH = """
import json, resource, sys
from pathlib import Path
from stellarstack.core.blueprint import parse_blueprint
from stellarstack.core.spec import ServerConfig, resolve
from stellarstack.errors import StellarError
from stellarstack.servers.patching import patch_files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answers = []
for parser in sys.argv[2:]:
    files = [{"path": parser, "parser": parser, "replace": {"a.b": "c"}}]
    document = {"id": "x", "docker": {"image": "a/b:1"}, "configFiles": files}
    try:
        patch_files(resolve("srv_1", "", parse_blueprint(document), ServerConfig()), Path(sys.argv[1]), (0, 0),
                    "10.213.0.0/28")
        answers.append(parser)
    except StellarError as error:
        pass
print(json.dumps([answers, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before]))
"""


def picture(tree: Path) -> list[tuple[str, int, int, int, int, bytes]]:
    """All of a tree that anybody could change: names, modes, owners, times, contents."""
    found = []
    for path in sorted([tree, *tree.rglob("*")]):
        at = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(at.st_mode) else b""
        found.append((str(path), at.st_mode, at.st_uid, at.st_gid, at.st_mtime_ns, content))
    return found


class LinkTests(PowerCase):
    """A server's folder with links out of it, to a folder that nobody may touch."""

    def setUp(self) -> None:
        super().setUp()
        self.outside = self.world.root / "outside"
        (self.outside / "dir").mkdir(parents=True)
        (self.outside / "secret").write_text("secret")
        (self.outside / "secret").chmod(0o600)
        (self.outside / "dir" / "deep").write_text("deep")
        self.world.engine.add_image("test/installer:1", Program(exit_after=1.0))

    def links(self) -> Path:
        root = self.world.root / "servers" / "srv_1"
        (root / "with").mkdir(exist_ok=True)
        for place in (root / "esc", root / "with" / "esc"):
            place.symlink_to(self.outside)
        (root / "file").symlink_to(self.outside / "secret")
        (root / "up").symlink_to("../../outside")
        os.link(self.outside / "secret", root / "hard")
        return root

    def test_delete(self) -> None:
        """W05: server.delete removes links, and nothing behind them."""
        self.made(start=False)
        root, before = self.links(), picture(self.outside)
        gone = self.power("delete")
        self.world.run(1)
        self.assertEqual((self.outcome(gone), root.exists()), (("succeeded", None), False))
        self.assertEqual(picture(self.outside), before)

    def test_reinstall(self) -> None:
        """W05: so does a reinstall that keeps no files, and a create that fails."""
        install = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 5}
        self.made(start=False, blueprint={"install": install})
        root, before = self.links(), picture(self.outside)
        again = self.power("reinstall", keepFiles=False)
        self.world.run(10)
        self.assertEqual(self.outcome(again), ("succeeded", None))
        self.assertEqual((list(root.iterdir()), picture(self.outside)), ([], before))

    def test_start(self) -> None:
        """W10: a start, and a root installer's files handed over, change no owner and no mode behind a link."""
        install = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 5, "root": True}
        self.made(start=False, blueprint={"install": install, "volumes": [{"container": "/data"}]})
        root = self.links()
        (root / "hard").unlink()  # a container cannot make one: its folder is a mount of its own
        before = picture(self.outside)
        again = self.power("reinstall")
        self.world.run(10)
        start = self.power("start")
        self.world.run(2)
        self.assertEqual([self.outcome(one) for one in (again, start)], [("succeeded", None)] * 2)
        self.assertEqual(picture(self.outside), before)

    def test_start_with_a_hard_link(self) -> None:
        """W10: a start does not touch the owner and mode of a file that has another name elsewhere."""
        self.made(start=False)
        self.links()
        before = picture(self.outside)
        start = self.power("start")
        self.world.run(2)
        self.assertEqual((self.outcome(start), picture(self.outside)), (("succeeded", None), before))

    def test_volume_that_is_a_link(self) -> None:
        """W09: a tenant's link where a volume's subfolder should be mounts nothing of the host: no start."""
        volumes = [{"container": "/data"}, {"container": "/logs"}]
        self.made(start=False, blueprint={"volumes": volumes})
        root = self.world.root / "servers" / "srv_1"
        (root / "logs").rmdir()
        (root / "logs").symlink_to(self.outside)
        before = picture(self.outside)
        start = self.power("start")
        self.world.run(2)
        self.assertEqual(self.outcome(start), ("failed", "path_forbidden"))
        self.assertEqual((self.world.engine.all(), picture(self.outside)), ([], before))


class KeyTests(PowerCase):
    PLACES: dict[str, Any] = {
        "mounts": [{"source": "/", "target": "/host"}, {"source": "/var/run/docker.sock", "target": "/s"}],
        "Mounts": [{"Source": "/etc", "Target": "/host", "Type": "bind"}],
        "allowed_mounts": ["/"], "binds": ["/:/host"], "Binds": ["/:/host"], "volumes": {"/etc": "/host"},
        "HostConfig": {"Binds": ["/:/host"], "Privileged": True, "PidMode": "host"}, "privileged": True,
        "paths": {"state": "/etc"}, "docker": {"socket": "/tmp/evil.sock"}, "tls": {"certificate": "/etc/passwd"},
        "logging": {"file": "/etc/cron.d/x"}, "system": {"data": "/"}, "root_directory": "/", "uid": 0, "user": "root",
    }  # fmt: skip

    def test_places_in_commands(self) -> None:
        """W08, W09: keys of a create or update that name places of the host change nothing: one mount, its own root."""
        create = self.world.create(config=self.PLACES, **self.PLACES)
        self.world.run(1)
        self.assertEqual(self.outcome(create), ("succeeded", None))
        update = self.power("update", config=self.PLACES, **self.PLACES)
        self.world.run(1)
        self.assertEqual(self.answer(update), {"applied": [], "pending": []})
        self.power("restart")
        self.world.run(2)
        body: Any = self.world.engine.get(CONTAINER).body
        self.assertEqual(body["HostConfig"]["Binds"], [f"{self.world.root / 'servers' / 'srv_1'}:/data:rw"])
        self.assertEqual((body["HostConfig"]["Privileged"], body["User"].startswith("0")), (False, False))
        self.assertNotIn("host", json.dumps([body["HostConfig"].get(key) for key in ("PidMode", "Mounts", "IpcMode")]))

    def test_places_in_volumes(self) -> None:
        """W09: a volume that names anything but folders of its own is refused; no container was ever made."""
        for place in (
            "/",
            "/etc",
            "/proc",
            "/sys/x",
            "/dev",
            "relative",
            "/data/../../etc",
            "/a:/b",
            "/x\0",
            "",
        ):
            create = self.world.create(blueprint={"volumes": [{"container": place}]})
            self.world.run(1)
            self.assertEqual(self.outcome(create)[0], "rejected", place)
        self.assertEqual((self.world.engine.all(), [name for name, _ in self.world.engine.faults.made
                          if name == "create_container"]), ([], []))  # fmt: skip

    def test_names_that_lead_elsewhere(self) -> None:
        """P05: a blueprint's id is looked up as a name, never as a path."""
        (self.world.root / "blueprints").mkdir(parents=True)
        (self.world.root / "evil.json").write_text(json.dumps({**GAME, "id": "evil"}))
        names = ("../evil", "../evil.json", str(self.world.root / "evil"), "/etc/passwd", "evil\0", "..\u2215evil",
                 "..\uff0fevil", "..", ".", "%2e%2e/evil", "..\\evil", "a" * 65, "evil")  # fmt: skip
        for name in names:
            create = self.world.send("server.create", serverId="srv_1", blueprint=name)
            self.world.run(1)
            self.assertEqual(self.outcome(create), ("rejected", "invalid_payload"), name)

    def test_image_names(self) -> None:
        """D04: what is no image name is refused before anything is asked of the engine."""
        names = (
            "img;rm -rf /",
            "--privileged",
            "../x",
            "a" * 300,
            "UPPER/Case",
            "a/b@sha256:12",
            "a b",
            "a\nb",
            "",
            "a/b:",
        )
        for name in names:
            create = self.world.create(blueprint={"docker": {"image": name}})
            self.world.run(1)
            self.assertEqual(self.outcome(create)[0], "rejected", name)
        self.assertEqual(
            {name for name, _ in self.world.engine.faults.made}
            - {"version", "containers", "networks", "follow_events"},
            set(),
        )


class SizeTests(PowerCase):
    def test_huge_target(self) -> None:
        """W19: a config file over the cap makes no start: refused, told by an alert, and left as it is."""
        file: dict[str, Json] = {"path": "a.properties", "parser": "properties", "replace": {"motd": "hi"}}
        self.made(start=False, blueprint={"configFiles": [file]})
        target = self.world.root / "servers" / "srv_1" / "a.properties"
        target.touch()
        os.truncate(target, 1 << 30)
        start = self.power("start")
        self.world.run(1)
        self.assertEqual(self.outcome(start), ("failed", "too_large"))
        alerts = self.world.store.events("node.alert", code="config_file")
        self.assertIn("a.properties", str(alerts[0]["message"]))
        self.assertEqual((target.stat().st_size, self.world.engine.all()), (1 << 30, []))

    def test_memory(self) -> None:
        """W19: hostile config files cost the daemon less than 32 MB, whatever the parser makes of them."""
        root = Path(self.mktemp()).absolute()
        root.mkdir()
        laughs = "a: &a [x,x,x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)
        )
        entities = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">' + "".join(
            f'<!ENTITY {chr(99 + n)} "{f"&{chr(98 + n)};" * 10}">' for n in range(9)
        ) + "]><a>&k;</a>"  # fmt: skip
        contents = {"json": "[" * 1_000_000, "yaml": laughs, "xml": entities, "file": "", "properties": ""}
        for parser, content in contents.items():
            (root / parser).write_text(content)
        os.truncate(root / "file", 1 << 30)
        os.truncate(root / "properties", 100_000_000)  # one line
        before = picture(root / "json") + picture(root / "yaml") + picture(root / "xml")
        command = [sys.executable, "-c", PATCH, str(root), *contents]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        patched, grown = json.loads(done.stdout)
        self.assertEqual(patched, [])
        self.assertLess(grown, 32 << 10)
        self.assertEqual(picture(root / "json") + picture(root / "yaml") + picture(root / "xml"), before)
        self.assertEqual([(root / one).stat().st_size for one in ("file", "properties")], [1 << 30, 100_000_000])


class FloorTests(PowerCase):
    def test_old_engine(self) -> None:
        """D03: an engine with known holes is told in the daemon's log, once."""
        told: list[str] = []

        @implementer(ILogObserver)
        def observe(event: dict[str, Any]) -> None:
            if event.get("log_level") is LogLevel.warn and "hole" in event:
                told.append(event["hole"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        old = EngineVersion("18.09", (1, 40), 1, "cgroupfs", "/", True, "1.0.0")

        async def version() -> EngineVersion:
            return old

        self.patch(self.world.engine, "version", version)
        for _ in range(2):
            self.world.engine.go_down()
            self.world.run(10)
            self.world.engine.come_back()
            self.world.run(10)
        self.assertEqual(told, list(old.known_holes))
