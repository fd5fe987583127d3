"""daemon.toml: what it accepts, what it refuses and in which words (PROTOCOL 2)."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields, is_dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, get_args, get_type_hints

from twisted.trial.unittest import SynchronousTestCase

from stellarstack import config as config_module
from stellarstack.config import Config, Secret
from stellarstack.config_loader import load_config
from stellarstack.errors import ConfigError

ETC = Path(__file__).parent.parent / "etc" / "daemon.toml"
CANARY = "canary-5f1d-do-not-show-this-secret-value"

MISSION = """
[node]
id = "node_abc123"
api_token = "strk_node_secret"
[redis]
url = "redis://redis.example.com:6379"
[server]
host = "0.0.0.0"
port = 9090
[docker]
socket = "/var/run/docker.sock"
[logging]
level = "warn"
file = "/var/log/stellarstack.log"
"""


class ConfigCase(SynchronousTestCase):
    """A file in a folder of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.path = self.folder / "daemon.toml"

    def loaded(self, text: str | bytes, **environ: str) -> Config:
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(self.path, environ)

    def refused(self, text: str | bytes, **environ: str) -> str:
        """The error line without the file's path."""
        line = str(self.assertRaises(ConfigError, self.loaded, text, **environ))
        self.assertNotIn("\n", line)
        self.assertNotIn(CANARY, line)
        return line.removeprefix(f"{self.path}: ")


class TestGoodFiles(ConfigCase):
    """What starts a daemon."""

    def test_mission(self) -> None:
        """The five sections of the mission are enough."""
        config = self.loaded(MISSION)
        self.assertEqual(config.node.id, "node_abc123")
        self.assertEqual(config.node.api_token, Secret("strk_node_secret"))
        self.assertEqual(config.redis.url, Secret("redis://redis.example.com:6379"))
        self.assertEqual((config.server.host, config.server.port), ("0.0.0.0", 9090))
        self.assertEqual((config.logging.level, config.logging.file), ("warn", Path("/var/log/stellarstack.log")))

    def test_empty(self) -> None:
        """An empty file has all defaults."""
        self.assertEqual(self.loaded(""), Config())

    def test_relative_paths(self) -> None:
        """A relative path counts from the file's folder, so the daemonised form finds it from anywhere."""
        config = self.loaded('[paths]\nstate = "state"\n[docker]\nsocket = "/abs.sock"\n')
        self.assertEqual(config.paths.state, self.folder / "state")
        self.assertEqual(config.database_path, self.folder / "state" / "daemon.sqlite")
        self.assertEqual(config.docker.socket, Path("/abs.sock"))

    def test_named_sections(self) -> None:
        """Registries and command keys are sections by name."""
        key = "A" * 43
        config = self.loaded(
            '[docker.registries."ghcr.io"]\nusername = "u"\npassword = "p"\n'
            f'[auth.command_keys.panel]\nalgorithm = "ed25519"\nkey = "{key}"\n'
            '[auth]\nrequire_signed_commands = true\n[server]\nallowed_origins = ["https://a.example"]\n'
        )
        self.assertEqual(config.docker.registries["ghcr.io"].password, Secret("p"))
        self.assertEqual(config.auth.command_keys["panel"].key, Secret(key))
        self.assertEqual(config.server.allowed_origins, ("https://a.example",))

    def test_whole_number_for_a_number(self) -> None:
        """Seconds may be written without a decimal point."""
        config = self.loaded('[heartbeat]\ninterval = 5\n[docker]\nnetwork_pool = "10.9.0.0/20"\n')
        self.assertEqual(config.heartbeat.interval, 5.0)
        self.assertIs(type(config.heartbeat.interval), float)
        self.assertEqual(config.docker.network_pool, IPv4Network("10.9.0.0/20"))

    def test_environment(self) -> None:
        """The five variables stand over the file; an empty one counts as absent."""
        config = self.loaded(
            MISSION,
            NODE_ID="node_env",
            NODE_API_TOKEN="strk_node_env",
            REDIS_URL="unix:///run/redis.sock",
            CONTROL_PLANE_URL="https://panel.example.com",
            JWT_SECRET="s" * 32,
        )
        self.assertEqual(config.node.id, "node_env")
        self.assertEqual(config.node.api_token, Secret("strk_node_env"))
        self.assertEqual(config.redis.url, Secret("unix:///run/redis.sock"))
        self.assertEqual(config.control_plane.url, "https://panel.example.com")
        self.assertEqual(config.auth.jwt_secret, Secret("s" * 32))
        self.assertEqual(self.loaded(MISSION, NODE_ID="").node.id, "node_abc123")

    def test_loopback_panel(self) -> None:
        """A control plane on this machine may speak plain HTTP."""
        for host in ("127.0.0.1:3000", "localhost", "[::1]:80"):
            self.assertIn(host, str(self.loaded(f'[control_plane]\nurl = "http://{host}/"').control_plane.url))


class TestRefusals(ConfigCase):
    """One line each, naming file, section, key, what was found and what is allowed."""

    ROWS: tuple[tuple[str | bytes, str], ...] = (
        ("[serverr]", "found the unknown section 'serverr', allowed is node, redis, .*did you mean server"),
        ("[server]\nprot = 1", r"\[server\]: found the unknown key 'prot', .*did you mean port"),
        ("[server]\nxyzzy = 1", r"\[server\]: found the unknown key 'xyzzy', allowed is host, .*frame_ancestors$"),
        ("server = 3", r"\[server\]: found a whole number, allowed is a section"),
        ('[server]\nport = "80"', r"\[server\] port: found a string, allowed is a whole number from 0 to 65535"),
        ("[server]\nport = true", r"\[server\] port: found true or false, allowed is a whole number"),
        ("[server]\nport = 80.0", r"\[server\] port: found a number, allowed is a whole number"),
        ("[server]\nport = 65536", r"\[server\] port: found 65536, allowed is a whole number from 0 to 65535"),
        ("[server]\nport = -1", r"\[server\] port: found -1,"),
        ("[server]\nport = 1979-05-27", r"\[server\] port: found a date,"),
        ('[server]\nhost = ""', r"\[server\] host: found an empty string, allowed is a string"),
        ('[server]\nallowed_origins = "x"', "allowed_origins: found a string, allowed is a list of strings"),
        ("[server]\nallowed_origins = [1]", "allowed_origins: found a list, allowed is a list of strings"),
        *(
            (
                f"[server]\nallowed_origins = ['https://ok.example', '{entry}']",
                r"\[server\] allowed_origins: found in entry 2",
            )
            for entry in (
                "*",
                "panel.example",
                "https://a b",
                "https://a.example/path",
                "null",
                "https://u@a",
                "ftp://a",
            )
        ),
        (
            '[node]\napi_token = "strk_node_x\\n"',
            r"\[node\] api_token: found a control character in the secret, allowed",
        ),
        ('[node]\napi_token = "strk_\\u001b[1m"', r"\[node\] api_token: found a control character"),
        ("[server]\nport = " + "9" * 5000, "found no valid TOML: .*integer string conversion.*allowed is TOML 1.0"),
        ('[server]\nframe_ancestors = ["https://a.example/x"]', r"\[server\] frame_ancestors: found in entry 1"),
        ('[server]\nframe_ancestors = ["*"]', r"frame_ancestors: found in entry 1: '\*', allowed is https://HOST"),
        ("[server]\nframe_ancestors = [\"https://a; script-src 'unsafe-inline'\"]", "frame_ancestors: found"),
        ('[server]\nframe_ancestors = ["https://a.example\\r\\nx: y"]', "frame_ancestors: found"),
        ("[heartbeat]\ninterval = nan", r"\[heartbeat\] interval: found nan, allowed is a number from 0.1 to 3600"),
        ("[heartbeat]\ninterval = true", r"interval: found true or false, allowed is a number"),
        ("[heartbeat]\nunhealthy_after = 9", r"\[heartbeat\] offline_after: found 5, allowed is more than .*\(9\)"),
        ('[redis]\nrequire_tls = "no"', r"require_tls: found a string, allowed is true or false"),
        ("[redis]\nrequire_tls = 1", r"require_tls: found a whole number, allowed is true or false"),
        ('[redis]\nurl = "http://x"', r"\[redis\] url: .*unknown kind; allowed: redis://"),
        ('[redis]\nurl = "redis://h"\nrequire_tls = true', r"\[redis\] url: .*redis://h:6379 is not encrypted"),
        ("[redis]\nembedded_port = 6380", r"\[redis\] embedded_port: found .*, allowed is .*api_token"),
        ('[logging]\nlevel = "inof"', r"\[logging\] level: found 'inof', allowed is debug \| info .*did you mean info"),
        ('[logging]\nlevel = "INFO\\nx"', r"\[logging\] level: found 'INFO\\nx', allowed is debug"),
        ("[logging]\nfile = 3", r"\[logging\] file: found a whole number, allowed is a path"),
        ('[logging]\nfile = "a\\u0000b"', r"\[logging\] file: found a NUL in the string, allowed is a path"),
        ('[node]\nid = "abc"', r"\[node\] id: found 'abc', allowed is a string of the form node_\[A-Za-z0-9\]\+"),
        ('[node]\nid = "node_a\\n"', r"\[node\] id: found 'node_a\\n'"),
        (f'[node]\nid = "{"x" * 300}"', r"\[node\] id: found 'x{57}…', allowed"),
        ("[node]\napi_token = 5", r"\[node\] api_token: found a whole number, allowed is a string"),
        ('[docker]\nnetwork_pool = "10.0.0.1/8"', "network_pool: found '10.0.0.1/8', allowed is a network such as"),
        ('[docker]\nnetwork_pool = "10.0.0.0/29"', "network_pool: found '10.0.0.0/29', allowed is a network of /28"),
        ("[docker]\nuid = 0", r"\[docker\] uid: found 0, allowed is a whole number from 1 "),
        ("[docker]\nprune_after = -1", r"\[docker\] prune_after: found -1.0, allowed is a number from 0 to 87600"),
        ("[docker]\nregistries = 4", r"\[docker.registries\]: found a whole number, allowed is sections by name"),
        (
            '[docker.registries.x]\nusername = "u"',
            r"\[docker.registries.x\] password: found nothing, allowed is needed",
        ),
        ('[docker.registries."a b"]', r"\[docker.registries\]: found the name 'a b', allowed is 1–128"),
        (
            "[console]\nflood_bytes_per_second = 10",
            r"\[console\] flood_bytes_per_second: found 10, allowed is 0 \(off\), or 65536 and more",
        ),
        (
            "[console]\nflood_viewer_bytes_per_second = 65535",
            "flood_viewer_bytes_per_second: found 65535, allowed is 0",
        ),
        ("[auth]\njwt_secret = []", r"\[auth\] jwt_secret: found a list, allowed is a string"),
        ('[auth]\njwt_algorithm = "none"', r"\[auth\] jwt_algorithm: found 'none', allowed is HS256 \| EdDSA"),
        ('[auth]\njwt_algorithm = "EdDSA"', r"\[auth\] jwt_public_key: found nothing, allowed is a public key in PEM"),
        ('[auth]\njwt_public_key = "k"', r"\[auth\] jwt_public_key: found a public key, allowed is one only where"),
        ("[auth]\nrequire_signed_commands = true", r"require_signed_commands: found true without a key"),
        ('[tls]\ncertificate = "c"', r"\[tls\] key: found nothing, allowed is both"),
        ('[tls]\nkey = "k"', r"\[tls\] certificate: found nothing, allowed is both"),
        ('[control_plane]\nurl = "http://panel"', r"\[control_plane\] url: found another URL, allowed is https://"),
        ('[control_plane]\nurl = "https://u:p@panel"', r"\[control_plane\] url: found another URL"),
        ('[control_plane]\nurl = "https://panel:99999"', r"\[control_plane\] url: found another URL"),
        ("[node]\nid = x\n", "found no valid TOML: .*line 2.*allowed is TOML 1.0"),
        ("[a]\n[a]\n", "found no valid TOML"),
        ("a = " + "[" * 5000, "found no valid TOML"),
        (b"[node]\nid = '\xff'", "found bytes that are no UTF-8 in line 2"),
        (b"#" * (2**20 + 1), "found more than 1048576 bytes"),
    )

    def test_rows(self) -> None:
        """Each wrong file is refused in the words that help."""
        for text, expected in self.ROWS:
            line = self.refused(text)
            self.assertTrue(re.match(f".*{expected}", line), f"{text[:60]!r}: {line}")

    def test_path_is_named(self) -> None:
        """The line begins with the file."""
        self.path.write_text("[x]")
        self.assertTrue(str(self.assertRaises(ConfigError, load_config, self.path, {})).startswith(f"{self.path}: "))

    def test_unreadable(self) -> None:
        """A file that is missing or a folder is a config error as well."""
        self.assertIn("No such file", str(self.assertRaises(ConfigError, load_config, self.folder / "none.toml", {})))
        self.assertIn("Is a directory", str(self.assertRaises(ConfigError, load_config, self.folder, {})))

    def test_variable_is_named(self) -> None:
        """A wrong variable is told by its name, not as if the file were wrong."""
        line = str(self.assertRaises(ConfigError, self.loaded, MISSION, NODE_ID="abc"))
        self.assertTrue(line.startswith("environment variable NODE_ID: [node] id: found 'abc'"), line)
        line = str(self.assertRaises(ConfigError, self.loaded, MISSION, REDIS_URL="ftp://x"))
        self.assertTrue(line.startswith("environment variable REDIS_URL: [redis] url: "), line)

    def test_variable_for_a_broken_section(self) -> None:
        """A variable does not hide that its section is none."""
        self.assertIn("[node]: found a whole number", self.refused("node = 1", NODE_ID="node_a"))


class TestSsh(ConfigCase):
    """[ssh.users.NAME]."""

    GOOD = '[ssh.users.alice]\nkeys = ["ssh-ed25519 AAAA"]\nservers = ["*", "srv.1"]\n'

    def test_good(self) -> None:
        """Keys and servers are needed, permissions have a default."""
        user = self.loaded(self.GOOD).ssh.users["alice"]
        self.assertEqual((user.servers, user.permissions), (("*", "srv.1"), ("console.read", "console.write")))

    def test_refused(self) -> None:
        """Lists that allow nothing, ids that are none, permissions that nobody knows."""
        rows = [
            (self.GOOD + 'permissions = ["console.wite"]', "[ssh.users.alice] permissions: found 'console.wite'"),
            (self.GOOD + "permissions = []", "[ssh.users.alice] permissions: found an empty list"),
            (self.GOOD.replace('"srv.1"', '"a b"'), "[ssh.users.alice] servers: found 'a b'"),
            ("[ssh.users.alice]\nkeys = []\nservers = ['*']", "[ssh.users.alice] keys: found an empty list"),
            ("[ssh.users.alice]\nkeys = ['x']", "[ssh.users.alice] servers: found nothing"),
        ]
        for text, start in rows:
            self.assertTrue(self.refused(text).startswith(start), self.refused(text))


class TestSecrets(ConfigCase):
    """P07: no secret in an error, a str or a repr."""

    def test_short_secrets(self) -> None:
        """J05: a secret under 32 bytes is refused, its size named and not its value."""
        short = CANARY[:31]
        rows = (
            f'[auth]\njwt_secret = "{short}"',
            f'[auth]\njwt_previous_secret = "{short}"',
            f'[metrics]\ntoken = "{short}"',
            f'[auth.command_keys.a]\nalgorithm = "hmac-sha256"\nkey = "{short}"',
        )
        for text in rows:
            line = self.refused(text)
            self.assertIn("found a secret of 31 bytes, allowed is 32 bytes or more", line)
            self.assertNotIn(short, line)
        self.assertIn("JWT_SECRET", str(self.assertRaises(ConfigError, self.loaded, "", JWT_SECRET=short)))

    def test_command_keys_are_measured_decoded(self) -> None:
        """J05: a key counts by its bytes, not by the letters that spell them."""
        for algorithm, key in (("hmac-sha256", "A" * 40), ("ed25519", "A" * 44), ("ed25519", "+" * 43)):
            line = self.refused(f'[auth.command_keys.a]\nalgorithm = "{algorithm}"\nkey = "{key}"')
            self.assertIn("[auth.command_keys.a] key: found a key of", line)
            self.assertNotIn(key, line)

    def test_secrets_in_the_wrong_place(self) -> None:
        """P07: a token pasted where the id belongs, or as a key, is not shown."""
        for text in (
            f'[node]\nid = "strk_node_{CANARY}"',
            f"[node]\nstrk_node_{CANARY} = 1",
            f'[logging]\nlevel = "redis://user:{CANARY}@host"',
            f'[redis]\nurl = "redis://user:{CANARY}@"',
            f'[control_plane]\nurl = "http://user:{CANARY}@host"',
        ):
            self.refused(text)

    def test_repr(self) -> None:
        """P07: a Config can be printed."""
        config = self.loaded(
            f'[node]\napi_token = "{CANARY}"\n[redis]\nurl = "redis://:{CANARY}@127.0.0.1"\n'
            f'[auth]\njwt_secret = "{CANARY}"\n[docker.registries.r]\nusername = "u"\npassword = "{CANARY}"\n'
        )
        self.assertNotIn(CANARY, repr(config))
        self.assertNotIn(CANARY, f"{config} {config.auth.jwt_secret}")
        assert config.auth.jwt_secret is not None
        self.assertEqual(config.auth.jwt_secret.reveal(), CANARY)
        self.assertEqual(hash(config.auth.jwt_secret), hash(Secret(CANARY)))


class TestShippedFile(ConfigCase):
    """etc/daemon.toml is the reference of all keys."""

    def test_loads_as_defaults(self) -> None:
        """The shipped file says nothing but the defaults."""
        self.assertEqual(load_config(ETC, {}), Config())

    def test_holds_every_key(self) -> None:
        """Every key of every section stands there, set or commented out, and no other."""
        self.assertEqual(_keys_in(ETC.read_text()), _keys_of(Config))

    def test_commented_values_are_good(self) -> None:
        """With every comment taken away the file is still TOML."""
        plain = re.sub(r"(?m)^#(?=[\[a-z])", "", ETC.read_text())
        self.assertEqual(set(tomllib.loads(plain)), {field.name for field in fields(Config)})

    def test_every_key_has_a_reason(self) -> None:
        """Above each group of keys stands a comment."""
        lines = ETC.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"#?[a-z_]+ = ", line):
                before = next(text for text in reversed(lines[:number]) if not re.match(r"#?[a-z_]+ = |#?\[", text))
                self.assertTrue(before.startswith("# "), f"line {number + 1}: {line}")


def _keys_of(cls: type[Any], prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    hints = get_type_hints(cls, vars(config_module))
    for field in fields(cls):
        inner = [part for part in (hints[field.name], *get_args(hints[field.name])) if is_dataclass(part)]
        where = (*prefix, field.name)
        found |= _keys_of(inner[0], where) if inner else {where}  # type: ignore[arg-type]
    return found


def _keys_in(text: str) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    section: tuple[str, ...] = ()
    for line in text.splitlines():
        if header := re.match(r"#?\[([a-z_.]+?)(\.\"[^\"]+\"|\.panel|\.alice)?\]$", line):
            section = tuple(header[1].split("."))
        elif key := re.match(r"#?([a-z_]+) = ", line):
            found.add((*section, key[1]))
    return found
