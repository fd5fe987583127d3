"""The config files of the twelve real eggs, and of a native blueprint."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import ConfigFile, parse_blueprint
from stellarstack.core.configfiles.of_server import file_path, patch_file
from stellarstack.core.spec import ServerSpec, parse_server_config, resolve
from stellarstack.errors import BlueprintInvalid, PathForbidden, TooLarge
from tests.test_egg import egg


def server(name: str, env: dict[str, Any] | None = None) -> ServerSpec:
    order: Any = {"memory": 1024, "ports": [25570], "env": env or {}}
    return resolve("srv_1", "", egg(f"{name}.json"), parse_server_config({"config": order}))


class RealEggTests(SynchronousTestCase):
    def patched(self, name: str, content: str | None, env: dict[str, Any] | None = None) -> str:
        spec = server(name, env)
        raw = None if content is None else content.encode()
        return patch_file(spec, spec.blueprint.config_files[0], raw, interface="172.18.0.1").decode()

    def test_paper_and_curseforge(self) -> None:
        """server.properties gets address and ports."""
        for name, env in (("egg-paper", {}), ("egg-curse-forge-generic", {"PROJECT_ID": "1", "API_KEY": "k"})):
            self.assertEqual(
                self.patched(name, "#x\nserver-port=1\nmotd=A\n", env),
                "#x\nserver-port=25570\nmotd=A\nserver-ip=0.0.0.0\nquery.port=25570\n",
            )

    def test_openttd(self) -> None:
        """openttd.cfg gets port, name, the number 0 and the lower-case variables."""
        rest = "\n\n[misc]\nx = 1\n"
        content = "[network]\nserver_port = 3979\nserver_name = Unnamed\nlan_internet = 1\nserver_advertise = no" + rest
        self.assertEqual(
            self.patched("egg-open-t-t-d-server", content, {"srv_name": "Mine", "SRV_ADVERTISE": "false"}),
            "[network]\nserver_port = 25570\nserver_name = Mine\nlan_internet = 0\nserver_advertise = false" + rest,
        )

    def test_minetest(self) -> None:
        """minetest.conf's bare keys become settings; `name` leaves `server_name` alone."""
        names = (
            "name server_name server_description server_address server_url server_announce serverlist_url motd "
            "max_users bind_address default_password default_game"
        )
        keys = "## generated\n" + "\n".join(names.split()) + "\n\n## Custom\n"
        written = self.patched("egg-minetest", keys, {"SERVER_ADMIN_NAME": "me", "SERVER_MOTD": "hello"})
        self.assertEqual(
            written.splitlines(),
            ["## generated", "name = me", "server_name = Minetest server", "server_description = mine here",
            "server_address = game.minetest.net",
             "server_url = https://minetest.net", "server_announce = true", "serverlist_url = servers.minetest.net",
             "motd = hello", "max_users = 15",
             "bind_address = 0.0.0.0", "default_password = ", "default_game = minetest", "", "## Custom"],
        )  # fmt: skip
        again = self.patched("egg-minetest", written, {"SERVER_ADMIN_NAME": "me", "SERVER_MOTD": "hello"})
        self.assertEqual(again, written)

    def test_waterfall(self) -> None:
        """The listener gets its port and the servers on this host the node's address."""
        written = self.patched(
            "egg-waterfall",
            "listeners:\n- host: 0.0.0.0:1\nservers:\n  a:\n    address: 127.0.0.1\n  b:\n    address: 1.2.3.4\n",
        )
        self.assertEqual(
            written,
            "listeners:\n- host: 0.0.0.0:25570\nservers:\n  a:\n    address: 172.18.0.1\n  b:\n    address: 1.2.3.4\n",
        )
        self.assertEqual(self.patched("egg-waterfall", None), "listeners:\n- host: 0.0.0.0:25570\n")

    def test_arma(self) -> None:
        """config.json keeps numbers as numbers and gets the egg's boolean."""
        content = {
            "bindPort": 2001,
            "publicPort": 2001,
            "game": {"name": "x", "maxPlayers": 64, "gameProperties": {"battlEye": True}},
        }
        found = json.loads(self.patched("egg-arma-reforger", json.dumps(content), {"SERVER_NAME": "123"}))
        self.assertEqual(
            found,
            {"bindPort": 25570, "publicPort": 25570, "bindAddress": "0.0.0.0", "publicAddress": "0.0.0.0",
             "game": {"name": "123", "maxPlayers": 32, "password": "", "passwordAdmin": "",
             "scenarioId": "{ECC61978EDCC2B5A}Missions/23_Campaign.conf",
                      "gameProperties": {"battlEye": True, "fastValidation": True}}},
        )  # fmt: skip

    def test_gtac(self) -> None:
        """server.xml gets its five values."""
        content = "<server>\n\t<servername>x</servername>\n\t<port>1</port>\n\t<httpport>1</httpport>\n</server>\n"
        written = ElementTree.fromstring(
            self.patched("egg-grand-theft-auto-connected", content, {"SERVERNAME": "A & B"})
        )
        self.assertEqual(
            {child.tag: child.text for child in written},
            {"servername": "A & B", "port": "25570", "httpport": "25570", "game": "gta:iv", "serverbrowser": "true"},
        )

    def test_lavalink(self) -> None:
        """application.yml (parser `yml`) keeps its comments and its number."""
        rest = 'lavalink:\n  server:\n    password: "youshallnotpass"\n'
        content = "server: # REST and WS server\n  port: 2333\n  address: 0.0.0.0\n" + rest
        self.assertEqual(self.patched("egg-lavalink", content), content.replace("2333", "25570"))

    def test_postgres(self) -> None:
        """postgresql.conf's commented lines become settings."""
        self.assertEqual(
            self.patched(
                "egg-postgres16",
                "#port = 5432\t\t# (change)\n#external_pid_file = ''\n#unix_socket_directories = '/tmp'\nx = 1\n",
            ),
            "port = 25570\nexternal_pid_file = '/home/container/postgres_db/run/postgres.pid'\n"
            "unix_socket_directories = '/home/container/postgres_db/run/'\nx = 1\n",
        )

    def test_the_others_have_none(self) -> None:
        """Three of the twelve patch nothing."""
        for name in ("egg-rust-autowipe", "egg-valheim", "egg-node-js-generic"):
            self.assertEqual(egg(f"{name}.json").config_files, ())

    def test_errors_name_the_file(self) -> None:
        """A file that cannot be patched is named in the refusal to start."""
        error = self.assertRaises(BlueprintInvalid, self.patched, "egg-arma-reforger", "{")
        self.assertTrue(str(error).startswith("config.json: "), error)
        self.assertRaises(TooLarge, self.patched, "egg-arma-reforger", " " * (6 << 20))


class OfServerTests(SynchronousTestCase):
    def spec(self, **env: str) -> ServerSpec:
        order: Any = {"memory": 64, "ports": [7], "env": env}
        document: Any = {
            "id": "x", "image": "a", "environment": [{"key": "WORLD", "default": "w"}],
            "configFiles": [{"path": "{{WORLD}}/a b.json", "parser": "json", "replace": {"port": "{{server.port}}",
            "w": "{{WORLD}}", "m": "{{server.memory}}"}}],
        }  # fmt: skip
        return resolve("srv_1", "", parse_blueprint(document), parse_server_config({"config": order}))

    def test_native(self) -> None:
        """A native blueprint's names are put in, a port and the memory as numbers where nothing stands yet."""
        spec = self.spec(WORLD="{{server.id}}")
        self.assertEqual(
            json.loads(patch_file(spec, spec.blueprint.config_files[0], None)),
            {"port": 7, "w": "{{server.id}}", "m": 64},
        )

    def test_names_of_files(self) -> None:
        """Variables may stand in a file's name, in both spellings, but lead nowhere else (P05)."""
        spec = self.spec(WORLD="earth")
        self.assertEqual(file_path(spec, spec.blueprint.config_files[0]), "earth/a b.json")
        self.assertEqual(file_path(spec, ConfigFile("${WORLD}.cfg", "file")), "earth.cfg")
        self.assertEqual(file_path(spec, ConfigFile("${NOPE}.cfg", "file")), ".cfg")
        self.assertEqual(file_path(spec, ConfigFile("{{NOPE}}.cfg", "file")), "{{NOPE}}.cfg")
        self.assertEqual(file_path(self.spec(WORLD="/etc"), spec.blueprint.config_files[0]), "etc/a b.json")
        for world in ("..", "a/../..", "x" * 5000):
            self.assertRaises(PathForbidden, file_path, self.spec(WORLD=world), spec.blueprint.config_files[0])
        self.assertEqual(file_path(spec, ConfigFile("${WORLD}", "file")), "earth")
        self.assertRaises(PathForbidden, file_path, spec, ConfigFile("/", "file"))


class FixtureTests(SynchronousTestCase):
    def test_licence_lies_beside_the_eggs(self) -> None:
        """The community's eggs come with the licence they were given under."""
        self.assertIn("Permission", (Path(__file__).parent / "eggs" / "LICENSE").read_text())
