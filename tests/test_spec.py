"""A server's spec: what was ordered, checked, and resolved with its blueprint."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import Limits, parse_blueprint
from stellarstack.core.ports import PortMapping
from stellarstack.core.spec import ServerConfig, ServerSpec, parse_server_config, resolve
from stellarstack.errors import BlueprintInvalid, InvalidPayload, StellarError
from tests.test_egg import egg


def blueprint(**keys: Any) -> Any:
    return parse_blueprint({"id": "x", "docker": {"image": "a/b:1"}, **keys})


def resolved(
    order: dict[str, Any] | None = None, version: str | None = None, unlimited: bool = False, **keys: Any
) -> ServerSpec:
    config = parse_server_config({"config": order or {}})
    return resolve("srv_1", "Shown", blueprint(**keys), config, version, allow_unlimited=unlimited)


class ConfigTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """PROTOCOL 4: every key of `config` is read."""
        found = parse_server_config(
            {
                "config": {
                    "memory": 1024, "swap": 512, "cpu": 1.5, "disk": 2048, "pids": 100, "blkioWeight": 500, "other": 1,
                    "ports": [25565, {"host": 1, "container": 2, "protocol": "udp", "ip": "127.0.0.1"}, {"host": 7,
                    "ip": "::1"}],
                    "env": {"A": "1", "B": 2, "C": True, "D": None, "E": 1.5},
                }
            }
        )  # fmt: skip
        self.assertEqual(
            found,
            ServerConfig(
                Limits(1024, 512, 1.5, 2048, 100),
                (PortMapping(25565, 25565), PortMapping(1, 2, "udp", "127.0.0.1"), PortMapping(7, 7, "both", "::1")),
                {"A": "1", "B": "2", "C": "1", "E": "1.5"},
                500,
            ),
        )
        self.assertEqual(ServerConfig.from_json(json.loads(json.dumps(found.to_json()))), found)

    def test_absent(self) -> None:
        """Without `config` all is left to the blueprint and the node."""
        self.assertEqual(parse_server_config({}), ServerConfig())

    def test_refusals_name_the_key(self) -> None:
        """What does not fit is an invalid payload, by the name of its key."""
        for key, config in [
            ("config: must be an object", []), ("config.memory", {"memory": "1g"}), ("config.memory", {"memory": 8}),
            ("config.memory", {"memory": -1}), ("config.memory", {"memory": True}), ("config.cpu", {"cpu": 0.001}),
            ("config.cpu", {"cpu": float("inf")}), ("config.swap", {"swap": -2}), ("config.disk", {"disk": 1.5}),
            ("config.pids", {"pids": -5}), ("config.blkioWeight", {"blkioWeight": 5}), ("config.ports",
            {"ports": 25565}),
            ("config.ports[0]", {"ports": [0]}), ("config.ports[0]", {"ports": ["25565"]}), ("config.ports[0]",
            {"ports": [1.5]}),
            ("config.ports[0].host", {"ports": [{"container": 1}]}), ("config.ports[0].ip", {"ports": [{"host": 1,
            "ip": "x"}]}),
            ("config.ports[0].ip", {"ports": [{"host": 1, "ip": "fe80::1%eth0"}]}),
            ("config.ports[0].protocol", {"ports": [{"host": 1, "protocol": "sctp"}]}),
            ("config.ports[1]: 5 is taken", {"ports": [5, {"host": 5, "protocol": "udp", "ip": "1.2.3.4"}]}),
            ("config.ports[1]: 5 is taken", {"ports": [{"host": 5, "ip": "0.0.0.0"}, {"host": 5, "ip": "127.0.0.1"}]}),
            ("config.ports[1]: 5 is taken",
             {"ports": [{"host": 5, "ip": "127.0.0.1"}, {"host": 5, "ip": "::ffff:127.0.0.1"}]}),
            ("config.ports[1]: 5 is taken",
             {"ports": [{"host": 5, "ip": "::ffff:0.0.0.0"}, {"host": 5, "ip": "192.0.2.1"}]}),
            ("config.ports[0].ip", {"ports": [{"host": 1, "ip": "::ffff:127.0.0.1%eth0"}]}),
            ("config.ports[2]: 5 is taken by ports[1]", {"ports": [6, {"host": 5, "ip": "1.2.3.4", "protocol": "tcp"},
            {"host": 5, "ip": "::"}]}),
            ("config.env: must be an object", {"env": ["A=1"]}), ("config.env.A", {"env": {"A": []}}),
        ]:  # fmt: skip
            error = self.assertRaises(InvalidPayload, parse_server_config, {"config": config})
            self.assertTrue(str(error).startswith(key), f"{error} for {config}")

    def test_addresses_as_they_are_compared(self) -> None:
        """One address is one text: an IPv4 address mapped into IPv6 is the IPv4 one, and IPv6 has its short form."""
        for told, kept in (
            ("::ffff:127.0.0.1", "127.0.0.1"), ("::FFFF:7f00:1", "127.0.0.1"), ("::ffff:0.0.0.0", "0.0.0.0"),
            ("0:0:0:0:0:0:0:1", "::1"), ("::", "::"), (" 192.0.2.1 ", "192.0.2.1"),
        ):  # fmt: skip
            order: Any = {"ports": [{"host": 5, "ip": told}]}
            (port,) = parse_server_config({"config": order}).ports or ()
            self.assertEqual(port.ip, kept)

    def test_ports_that_only_look_the_same(self) -> None:
        """One number by two protocols, or at two addresses, is two ports."""
        for ports in [
            [{"host": 5, "protocol": "tcp"}, {"host": 5, "protocol": "udp"}],
            [{"host": 5, "ip": "1.2.3.4"}, {"host": 5, "ip": "1.2.3.5"}],
        ]:
            order: Any = {"ports": ports}
            self.assertEqual(len(parse_server_config({"config": order}).ports or ()), 2)


class LimitTests(SynchronousTestCase):
    def test_order_before_blueprint_before_node(self) -> None:
        """What was ordered counts, then the blueprint's default, then the node's."""
        spec = resolved({"memory": 256}, resources={"memory": 512, "cpu": 2.0})
        self.assertEqual((spec.memory_mb, spec.cpu, spec.disk_mb, spec.pids, spec.swap_mb), (256, 2.0, 10240, 512, 0))

    def test_no_limit_only_where_allowed(self) -> None:
        """W03: 0 is refused, and never taken from a blueprint, unless daemon.toml allows it."""
        for key in ("memory", "cpu", "disk", "pids"):
            error = self.assertRaises(InvalidPayload, resolved, {key: 0})
            self.assertIn(f"config.{key}", str(error))
        self.assertRaises(InvalidPayload, resolved, {"swap": -1})
        none = {"memory": 0, "swap": -1, "cpu": 0, "disk": 0, "pids": 0}
        spec = resolved(resources=none)
        self.assertEqual((spec.memory_mb, spec.swap_mb, spec.cpu, spec.disk_mb, spec.pids), (1024, 0, 1.0, 10240, 512))
        for spec in (resolved(none, unlimited=True), resolved(resources=none, unlimited=True)):
            self.assertEqual((spec.memory_mb, spec.swap_mb, spec.cpu, spec.disk_mb, spec.pids), (0, -1, 0, 0, 0))


class EnvironmentTests(SynchronousTestCase):
    def test_native(self) -> None:
        """Variables, the server's own values and what else was ordered make the environment."""
        spec = resolved(
            {
                "memory": 64,
                "ports": [{"host": 7001, "container": 7000, "ip": "10.0.0.5"}],
                "env": {"MOTD": "x", "EXTRA": "y"},
            },
            environment=[{"key": "MOTD", "default": "hi"}, {"key": "MODE", "default": "easy"}],
        )
        self.assertEqual(
            dict(spec.env),
            {
                "SERVER_MEMORY": "64", "SERVER_IP": "10.0.0.5", "SERVER_PORT": "7000", "SERVER_ID": "srv_1",
                "MOTD": "x",
                "MODE": "easy", "EXTRA": "y", "HOME": "/data",
            },
        )  # fmt: skip
        self.assertEqual(dict(spec.variables), {"MOTD": "x", "MODE": "easy"})
        self.assertEqual((spec.port, spec.primary and spec.primary.host), (7000, 7001))

    def test_egg(self) -> None:
        """EGGS.md 5: the panel's own values first and never overridden, then each variable in capitals."""
        order: Any = {"memory": 512, "ports": [{"host": 3979, "ip": "127.0.0.1"}], "env": {"srv_name": "Mine",
        "SRV_ADVERTISE": "false",
                 "SERVER_PORT": "1", "STARTUP": "evil", "TZ": "x"}}  # fmt: skip
        spec = resolve("srv_1", "", egg("egg-open-t-t-d-server.json"), parse_server_config({"config": order}))
        self.assertEqual(
            list(spec.env.items()),
            [
                ("TZ", "UTC"), ("STARTUP", "./openttd -D"), ("SERVER_MEMORY", "512"), ("SERVER_IP", "0.0.0.0"),
                ("SERVER_PORT", "3979"), ("P_SERVER_UUID", "srv_1"), ("SRV_NAME", "Mine"), ("SRV_ADVERTISE", "false"),
                ("OPENTTD_VERSION", "13.0-RC2"), ("OPENGFX_VERSION", "7.1"),
            ],
        )  # fmt: skip
        self.assertEqual((spec.name, spec.command), ("srv_1", None))
        self.assertEqual(spec.variables["srv_name"], "Mine")

    def test_all_eggs_resolve(self) -> None:
        """Each of the twelve eggs makes a server, given what it requires and has no default for."""
        needed = {
            "egg-minetest": {"SERVER_ADMIN_NAME": "me"},
            "egg-curse-forge-generic": {"PROJECT_ID": "1", "API_KEY": "k"},
        }
        for name in (
            "paper", "minetest", "rust-autowipe", "arma-reforger", "lavalink", "open-t-t-d-server", "postgres16",
            "waterfall",
            "valheim", "grand-theft-auto-connected", "node-js-generic", "curse-forge-generic",
        ):  # fmt: skip
            blueprint = egg(f"egg-{name}.json")
            order: Any = {"memory": 512, "ports": [1], "env": needed.get(f"egg-{name}", {})}
            config = parse_server_config({"config": order})
            spec = resolve("srv_1", "", blueprint, config)
            self.assertEqual(ServerSpec.from_json(json.loads(json.dumps(spec.to_json()))), spec)
            self.assertEqual(spec.env["STARTUP"], blueprint.startup)

    def test_rules_name_variable_and_rule(self) -> None:
        """A value that breaks a rule, and a required one that is empty, are refused by both names but not shown."""
        for env, words in [
            ({"SERVER_JARFILE": "secret value"}, ("SERVER_JARFILE", r"regex:/^([\w\d._-]+)(\.jar)$/")),
            ({"BUILD_NUMBER": ""}, ("BUILD_NUMBER", "required")),
            ({"BUILD_NUMBER": "x" * 21}, ("BUILD_NUMBER", "max:20")),
        ]:
            order: Any = {"env": env}
            config = parse_server_config({"config": order})
            error = self.assertRaises(InvalidPayload, resolve, "srv_1", "", egg("egg-paper.json"), config)
            for word in words:
                self.assertIn(word, str(error))
            self.assertNotIn("secret value", str(error))

    def test_required_but_empty_by_default(self) -> None:
        """A required variable without default is asked for when the server is made, not when its egg is read."""
        self.assertRaises(InvalidPayload, resolve, "srv_1", "", egg("egg-curse-forge-generic.json"), ServerConfig())

    def test_hostile_values(self) -> None:
        """D05: line breaks, NUL, names with = and a megabyte are refused; the host's environment is never there."""
        os.environ["PLANTED"] = "canary"
        self.addCleanup(os.environ.pop, "PLANTED")
        for env in [
            {"A": "x\ny"}, {"A": "x\0y"}, {"A": "x\ry"}, {"A=B": "x"}, {"": "x"}, {"A B": "x"}, {"A\n": "x"},
            {"-A": "x"},
            {"A": "\ud800"}, {"A": "x" * 200_000}, {f"A{index}": "x" * 100_000 for index in range(11)},
            {"x" * 200: "x"},
        ]:  # fmt: skip
            error = self.assertRaises(InvalidPayload, resolved, {"env": env})
            self.assertTrue(str(error).startswith("config.env"), error)
        self.assertNotIn("PLANTED", resolved().env)


class CommandTests(SynchronousTestCase):
    def command(self, command: Any, env: dict[str, str] | None = None, **keys: Any) -> Any:
        return resolved(
            {"memory": 64, "ports": [7000], "env": env or {}},
            environment=[{"key": "MOTD"}],
            startup={"command": command},
            **keys,
        ).command

    def test_kinds(self) -> None:
        """A string stays one line for the shell, a list stays words, and nothing stays nothing."""
        self.assertEqual(self.command("./game --port {{server.port}} {{SERVER_PORT}}"), "./game --port 7000 7000")
        self.assertEqual(
            self.command(["./game", "{{server.id}}", "{{MOTD}}"], {"MOTD": "a b"}), ("./game", "srv_1", "a b")
        )
        self.assertIsNone(self.command(None))

    def test_expanded_once(self) -> None:
        """W17: what a tenant puts into a variable is neither a placeholder nor code."""
        evil = "{{server.id}} $(id) ${HOME} `id` {{config.token}}"
        self.assertEqual(self.command(["x", "{{MOTD}}"], {"MOTD": evil}), ("x", evil))
        self.assertEqual(self.command('x "{{MOTD}}"', {"MOTD": evil}), 'x "${MOTD}"')

    def test_unknown_is_refused(self) -> None:
        """PROTOCOL 12: a placeholder that nobody knows is refused at create, in command and config files."""
        for command in ["./x {{NOPE}}", ["./x", "{{config.token}}"], "{{server.secret}}"]:
            error = self.assertRaises(BlueprintInvalid, self.command, command)
            self.assertTrue(str(error).startswith("startup.command"), error)
        files = [{"path": "a", "parser": "json", "replace": {"x": "{{NOPE}}"}}]
        error = self.assertRaises(BlueprintInvalid, resolved, configFiles=files)
        self.assertTrue(str(error).startswith("configFiles: a: x: {{NOPE}}"), error)
        self.assertEqual(resolved(configFiles=[{"path": "a", "parser": "json", "replace": {"x": 5}}]).command, None)

    def test_name_that_no_shell_knows(self) -> None:
        """An extra variable whose name a shell cannot refer to is refused where its value would need quotes."""
        self.assertEqual(self.command("x {{a.b}}", {"a.b": "plain"}), "x plain")
        self.assertRaises(BlueprintInvalid, self.command, "x {{a.b}}", {"a.b": "two words"})


ENTRYPOINT = r"""
java() { printf '%s\n' "$@"; }
PARSED=$(echo "${STARTUP}" | sed -e 's/{{/${/g' -e 's/}}/}/g')
eval "$PARSED"
"""  # of the images that eggs name, which expand their startup themselves (EGGS.md 5)


class EggStartupTests(SynchronousTestCase):
    """Startups that are shell code reach the image's entrypoint as their authors wrote them."""

    def run_in(self, files: Mapping[str, str], spec: ServerSpec) -> list[str]:
        """What its game is started with, in a folder with these files."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        found = subprocess.run(
            ["bash", "-c", ENTRYPOINT], cwd=folder, env={"PATH": os.defpath, **spec.env}, check=True,
            capture_output=True, text=True,
        )  # fmt: skip
        self.assertEqual(found.stderr, "")
        return found.stdout.splitlines()

    def test_curseforge(self) -> None:
        """`$( [[ ]] && printf … )` and backticks: the jar's name, or the argument files where a loader made them."""
        blueprint = egg("egg-curse-forge-generic.json")
        order: Any = {
            "memory": 512,
            "ports": [25570],
            "env": {"PROJECT_ID": "1", "API_KEY": "$(touch pwned) `id` {{X}}"},
        }
        spec = resolve("srv_1", "", blueprint, parse_server_config({"config": order}))
        self.assertEqual(spec.command, None)
        self.assertEqual(spec.env["STARTUP"], blueprint.startup)
        usual = ["-Xms128M", "-Xmx512M", "-Dterminal.jline=false", "-Dterminal.ansi=true"]
        self.assertEqual(self.run_in({".serverjar": "forge-1.16.jar\n"}, spec), [*usual, "-jar", "forge-1.16.jar"])
        self.assertEqual(
            self.run_in({"user_jvm_args.txt": "", "unix_args.txt": "", ".serverjar": "x.jar"}, spec),
            ["@user_jvm_args.txt", *usual, "@unix_args.txt"],
        )


class VersionTests(SynchronousTestCase):
    def test_tags_and_labels(self) -> None:
        """A version is one on offer: it takes the tag's place, or is an image of the egg by its label or name."""
        offers = [{"tag": "1.20.4", "name": "Latest"}, {"tag": "1.8"}]
        self.assertEqual(resolved(versions=offers).image, "a/b:1")
        self.assertEqual(resolved(version="1.8", versions=offers).image, "a/b:1.8")
        self.assertEqual(resolved(version="Latest", versions=offers).image, "a/b:1.20.4")
        paper = egg("egg-paper.json")
        for version in ("Java 21", "ghcr.io/pterodactyl/yolks:java_21"):
            self.assertEqual(
                resolve("s", "", paper, ServerConfig(), version).image, "ghcr.io/pterodactyl/yolks:java_21"
            )
        self.assertEqual(resolve("s", "", paper, ServerConfig()).image, "ghcr.io/pterodactyl/yolks:java_8")

    def test_the_blueprints_own(self) -> None:
        """The blueprint's own version changes nothing."""
        self.assertEqual(
            resolve("s", "", parse_blueprint({"id": "x", "version": "3", "image": "a"}), ServerConfig(), "3").image, "a"
        )

    def test_refusals(self) -> None:
        """Others are refused with what there is, and a digest has no versions."""
        error = self.assertRaises(InvalidPayload, resolved, version="9", versions=[{"tag": "1.8"}])
        self.assertIn("1.8", str(error))
        digest = {"image": "a@sha256:" + "0" * 64}
        self.assertRaises(InvalidPayload, resolved, version="1", docker=digest, versions=[{"tag": "1"}])

    def test_images_of_eggs_are_checked_here(self) -> None:
        """D04: an egg with a name that is no image is read, but makes no server."""
        for images in [
            {"A": "img;rm -rf /"},
            {"A": "--privileged"},
            {"A": "../x"},
            {"A": "a" * 300},
            {"A": "Upper"},
            {"A": ""},
            {},
        ]:
            document: Any = {"meta": {"version": "PTDL_v2"}, "name": "x", "docker_images": images}
            self.assertRaises(BlueprintInvalid, resolve, "s", "", parse_blueprint(document), ServerConfig())

    def test_install_image(self) -> None:
        """The installer's image is its own, else the server's, and is checked too."""
        self.assertEqual(resolved(install={"script": "x"}).install_image, "a/b:1")
        self.assertEqual(resolved(install={"script": "x", "image": "i:2"}).install_image, "i:2")
        self.assertEqual(resolved().install_image, "")
        document: Any = {"meta": {"version": "PTDL_v2"}, "name": "x", "docker_images": ["a"],
                         "scripts": {"installation": {"script": "x", "container": "A;B"}}}  # fmt: skip
        self.assertRaises(BlueprintInvalid, resolve, "s", "", parse_blueprint(document), ServerConfig())


class SpecTests(SynchronousTestCase):
    def test_server_ids(self) -> None:
        """P05: an id of another form is refused before it names a folder."""
        for server_id in ["../x", "", ".x", "a/b", "x" * 65, "a\n", "ä"]:
            self.assertRaises(InvalidPayload, resolve, server_id, "", blueprint(), ServerConfig())

    def test_ports_and_places(self) -> None:
        """Without ports there is no primary; the blueprint's own is what the game is told."""
        spec = resolved(
            ports=[{"container": 80}], volumes=[{"container": "/d"}, {"container": "/d/w"}, {"container": "/logs"}]
        )
        bare = resolve("srv_1", "", spec.blueprint, parse_server_config({"config": {"ports": []}}))
        self.assertEqual((bare.primary, bare.port, bare.ip), (None, 80, "0.0.0.0"))
        self.assertEqual(resolved().port, 0)
        self.assertEqual(spec.subfolders, ("logs",))

    def test_ports_of_the_blueprint(self) -> None:
        """An order that says nothing of ports, or null, gets the blueprint's, same number on the host; [] gets none."""
        listed: Any = [{"container": 80, "protocol": "tcp"}, 81, {"container": 80, "protocol": "udp"}, 80]
        document = blueprint(ports=listed)
        wanted = (PortMapping(80, 80, "tcp"), PortMapping(81, 81), PortMapping(80, 80, "udp"))
        orders: list[Any] = [{}, {"ports": None}, {"memory": 64}]
        for config in orders:
            self.assertEqual(resolve("s", "", document, parse_server_config({"config": config})).ports, wanted)
        self.assertEqual(resolve("s", "", document, parse_server_config({"config": {"ports": []}})).ports, ())
        named = resolve("s", "", document, parse_server_config({"config": {"ports": [9]}}))
        self.assertEqual(named.ports, (PortMapping(9, 9),))

    def test_from_json_refuses(self) -> None:
        """What is no stored server is told as such."""
        self.assertRaises(StellarError, ServerSpec.from_json, {"server_id": 5})
