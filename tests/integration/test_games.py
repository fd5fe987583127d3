"""Real game servers under a real daemon: unmodified templates and our own, judged by what players' games are told."""

from __future__ import annotations

import json
import os
import select
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from mcstatus import JavaServer
from twisted.trial.unittest import SynchronousTestCase

from tests.games.images import MINECRAFT, MINETEST, OPENTTD, LocalName, ensure_game_images
from tests.games.queries import minetest_peer, openttd_found, openttd_game
from tests.integration.node_process import CHECKOUT, NodeProcess, Viewer
from tests.ports import free_port

EGGS = CHECKOUT / "tests" / "eggs"
BLUEPRINTS = CHECKOUT / "etc" / "blueprints"
USER = 988
SERVER = "srv_1"


def egg(name: str) -> dict[str, Any]:
    """A template as its authors exported it."""
    found: dict[str, Any] = json.loads((EGGS / f"egg-{name}.json").read_text())
    return found


def read_until_running(viewer: Viewer) -> list[bytes | str]:
    """What a viewer gets until it is told that the server runs, in order: terminal bytes, and each status."""
    told: list[bytes | str] = []
    deadline = time.monotonic() + 60
    while "running" not in told:
        if not select.select([viewer.session], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"the server never ran: {told[-5:]}")
        for one in viewer.session.receive():
            if isinstance(one, bytes):
                told.append(one)
            elif one["type"] == "status":
                told.append(str(one["status"]))
    return told


class GameCase(SynchronousTestCase):
    """A daemon of its own for each test, the images, and the names that the templates have for them."""

    def setUp(self) -> None:
        ensure_game_images()
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.node.start()
        self.port = free_port()

    def name_image(self, image: str, name: str) -> None:
        """The template names an image that only a registry has: a local one by that name is used without asking."""
        self.addCleanup(LocalName(image, name).close)

    def create(self, blueprint: dict[str, Any] | str, env: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
        config = {"memory": 512, "ports": [self.port], "env": env or {}}
        return self.node.run("server.create", serverId=SERVER, blueprint=blueprint, config=config, **more)

    def install_blueprint(self, name: str) -> str:
        """Puts one of etc/blueprints where the node looks for it; answers its id."""
        shutil.copy(BLUEPRINTS / f"{name}.json", self.node.state / "blueprints")
        return name

    def viewer(self) -> Viewer:
        viewer = self.node.console(SERVER)
        self.addCleanup(viewer.close)
        viewer.frame("ready")
        return viewer

    @property
    def root(self) -> Path:
        """The server's folder on the host."""
        return self.node.state / "servers" / SERVER

    def assert_stops_by_itself(self) -> None:
        """The blueprint's own stop was enough, and the game ended well."""
        stopped = self.node.run("server.stop", serverId=SERVER)
        self.assertEqual(stopped, {"status": "stopped", "exitCode": 0, "forced": False})
        last = self.node.events("server.status")[-1]
        self.assertEqual((last["status"], last["exitCode"], last["reason"]), ("stopped", 0, "user"))


class MinecraftTests(GameCase):
    def test_paper_egg(self) -> None:
        """The Paper egg as it is: runs once it said Done, is listed on its port, hears the console, stops by `stop`."""
        template = egg("paper")
        self.name_image(MINECRAFT, next(iter(template["docker_images"].values())))
        self.create(template, skipInstall=True, start=False)
        viewer = self.viewer()
        command = self.node.send("server.start", serverId=SERVER)
        told = read_until_running(viewer)
        printed = b"".join(one for one in told if isinstance(one, bytes))
        self.assertIn(b")! For help, type ", printed)
        self.assertEqual(self.node.result(command)["result"], {"status": "running"})
        statuses = [event["status"] for event in self.node.events("server.status")]
        self.assertEqual(statuses, ["installing", "stopped", "starting", "running"])
        status = JavaServer("127.0.0.1", self.port).status()
        self.assertEqual((status.version.name, status.players.online, status.players.max), ("1.16.5", 0, 20))
        self.assertIn(f"server-port={self.port}\n", (self.root / "server.properties").read_text())
        viewer.type(b"say hello\r")
        viewer.until(b"[Server] hello")
        self.assert_stops_by_itself()

    def test_own_blueprint(self) -> None:
        """Our blueprint for Minecraft: its variables stand in server.properties, and a player's game shows them."""
        motd = "Grüße: 100% our own = \\o/ §a✓"
        made = self.create(self.install_blueprint("minecraft"), {"MOTD": motd, "MAX_PLAYERS": "7", "EULA": "true"})
        self.assertEqual(made["status"], "running")
        status = JavaServer("127.0.0.1", self.port).status()
        self.assertEqual(status.raw["description"], {"text": motd})
        self.assertEqual(status.players.max, 7)
        self.assertEqual((self.root / "eula.txt").read_text().strip(), "eula=true")
        self.assert_stops_by_itself()


class OpenttdTests(GameCase):
    def test_egg(self) -> None:
        """The OpenTTD egg as it is: the game tells the name that was put into openttd.cfg, and stops by `exit`."""
        template = egg("open-t-t-d-server")
        self.name_image(OPENTTD, next(iter(template["docker_images"].values())))
        self.create(template, {"srv_name": "Ours & öther", "srv_advertise": "false"}, skipInstall=True, start=False)
        # the egg's install downloads the game into the server's folder, and its startup runs it there
        os.symlink("/usr/games/openttd", self.root / "openttd")
        viewer = self.viewer()
        command = self.node.send("server.start", serverId=SERVER)
        told = read_until_running(viewer)
        printed = b"".join(one for one in told if isinstance(one, bytes))
        self.assertIn(b"[net] Map generated, starting game", printed)
        self.assertEqual(self.node.result(command)["result"], {"status": "running"})
        game = openttd_game("127.0.0.1", self.port)
        self.assertEqual((game.name, game.revision, game.dedicated), ("Ours & öther", "13.0", True))
        self.assertTrue(openttd_found("127.0.0.1", self.port))
        self.assert_stops_by_itself()


class MinetestTests(GameCase):
    ADMIN = "boss"
    ENV = {"SERVER_ADMIN_NAME": ADMIN, "SERVER_NAME": "Our own mine", "SERVER_ANNOUNCE": "false"}

    def name_images(self) -> dict[str, Any]:
        template = egg("minetest")
        self.name_image(MINETEST, next(iter(template["docker_images"].values())))
        self.name_image(MINETEST, template["scripts"]["installation"]["container"])
        return template

    def start_egg(self) -> Viewer:
        """Runs the egg in a folder as its install script leaves it: the keys alone, for the patch to fill in."""
        template = self.name_images()
        self.create(template, self.ENV, skipInstall=True, start=False)
        patched = json.loads(template["config"]["files"])[".minetest/minetest.conf"]["find"]
        folder = self.root / ".minetest"
        folder.mkdir()
        (folder / "minetest.conf").write_text("".join(f"{key}\n" for key in patched))
        for path in (folder, folder / "minetest.conf"):
            os.chown(path, USER, USER)
        self.assertEqual(self.node.run("server.start", serverId=SERVER), {"status": "running"})
        return self.viewer()

    def register_admin(self) -> None:
        """What the admin's first login makes: the game obeys its own console only from then on."""
        with closing(sqlite3.connect(self.root / ".minetest/worlds/world/auth.sqlite")) as accounts, accounts:
            accounts.execute("INSERT INTO auth (name, password, last_login) VALUES (?, '', 0)", [self.ADMIN])

    def test_egg(self) -> None:
        """The Minetest egg as it is: answers by UDP, has read its patched config, stops by `/shutdown`.

        Until the admin has an account the game refuses that: such a stop is told as the forced one that it is.
        """
        viewer = self.start_egg()
        self.assertTrue(minetest_peer("127.0.0.1", self.port) > 1)
        self.assertIn("server_name = Our own mine\n", (self.root / ".minetest/minetest.conf").read_text())
        # both are out of the patched config: without it the game listens on [::] and knows no admin
        viewer.until(b"0.0.0.0:%d" % self.port)
        viewer.until(b"Please log in using the client as 'boss'")
        refused = self.node.run("server.stop", serverId=SERVER, timeout=3)
        self.assertTrue(refused["forced"])
        self.assertEqual(refused["exitCode"], self.node.events("server.status")[-1]["exitCode"])
        viewer.until(b"You don't have permission to run this command")
        self.register_admin()
        self.assertEqual(self.node.run("server.start", serverId=SERVER), {"status": "running"})
        self.assertTrue(minetest_peer("127.0.0.1", self.port) > 1)
        self.assert_stops_by_itself()

    def test_ctrl_c_typed_by_a_user(self) -> None:
        """A Ctrl-C typed into the console ends the egg's game with its own exit status; that is no crash."""
        viewer = self.start_egg()
        viewer.until(b"0.0.0.0:%d" % self.port)
        viewer.type(b"\x03")
        self.node.until(lambda: self.node.events("server.status", status="stopped", exitCode=0), 20, "the game's end")
        self.assertEqual(self.node.events("server.status")[-1]["reason"], "exit")

    def test_egg_with_its_install(self) -> None:
        """What the egg's install script makes, as root, is the server's to write.

        Of the script's downloads the game needs none, and the image has no curl for them.
        """
        self.assertEqual(self.create(self.name_images(), self.ENV)["status"], "running")
        self.assertEqual((self.root / ".minetest/minetest.conf").stat().st_uid, USER)
        self.assertTrue(minetest_peer("127.0.0.1", self.port) > 1)

    def test_own_blueprint(self) -> None:
        """Our blueprint for Minetest: answers by UDP, has read its config, ends on Ctrl-C with status 0, unforced."""
        made = self.create(self.install_blueprint("minetest"), {"SERVER_NAME": "Ours", "MOTD": "dig; # deep"})
        self.assertEqual(made["status"], "running")
        self.assertTrue(minetest_peer("127.0.0.1", self.port) > 1)
        self.viewer().until(b"listening on 0.0.0.0:%d" % self.port)
        self.assert_stops_by_itself()
