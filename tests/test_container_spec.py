"""The bodies containers are made from."""

import json
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import parse_blueprint
from stellarstack.core.container_spec import Placement, install_body, run_body
from stellarstack.core.spec import ServerSpec, parse_server_config, resolve
from stellarstack.errors import BlueprintInvalid, StellarError
from tests.examples import TIMES, examples
from tests.test_egg import egg

PLACEMENT = Placement(
    node_id="node_a", container_name="ss-srv_1", uid=988, gid=989, root_path="/srv/servers/srv_1", network="ss-srv_1",
    install_path="/srv/install/srv_1",
)  # fmt: skip
MB = 1 << 20
INSTALL_CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"}
# All that a body may hold. A key that is not here has not been thought about.
BODY_KEYS = {
    "Image", "Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr", "Env", "Labels", "User",
    "StopSignal", "ExposedPorts", "WorkingDir", "Entrypoint", "Cmd", "HostConfig",
}  # fmt: skip
HOST_KEYS = {
    "NetworkMode", "RestartPolicy", "AutoRemove", "Privileged", "CapDrop", "CapAdd", "SecurityOpt", "IpcMode",
    "CgroupnsMode",
    "Memory", "MemorySwap", "NanoCpus", "PidsLimit", "OomKillDisable", "Tmpfs", "LogConfig", "BlkioWeight", "Init",
    "ReadonlyRootfs", "PortBindings", "Binds",
}  # fmt: skip


def spec(order: dict[str, Any] | None = None, **keys: Any) -> ServerSpec:
    order = {"memory": 512, "cpu": 1.5, "pids": 100, **(order or {})}
    blueprint = parse_blueprint({"id": "x", "docker": {"image": "a/b:1"}, **keys})
    return resolve("srv_1", "", blueprint, parse_server_config({"config": order}), allow_unlimited=True)


def egg_spec(name: str = "egg-paper.json") -> ServerSpec:
    return resolve("srv_1", "", egg(name), parse_server_config({"config": {"memory": 512, "ports": [25565]}}))


def broken_fences(body: dict[str, Any], *, install: bool) -> list[str]:
    """Every fence of PROTOCOL 12 that the body lacks."""
    host = body["HostConfig"]
    root_user = body["User"] == "0:0"
    mounts = [bind.split(":") for bind in host["Binds"]]
    sources = {source for source, _, _ in mounts}
    inside = {
        source for source in sources if source == "/srv/servers/srv_1" or source.startswith("/srv/servers/srv_1/")
    }
    allowed = inside | ({"/srv/install/srv_1"} if install else set())
    checks = {
        "unknown body key": set(body) <= BODY_KEYS,
        "unknown host key": set(host) <= HOST_KEYS,
        "privileged": host["Privileged"] is False,
        "capabilities dropped": host["CapDrop"] == ["ALL"],
        "capabilities added": set(host["CapAdd"]) <= (INSTALL_CAPABILITIES if install and root_user else set()),
        "no-new-privileges": "no-new-privileges:true" in host["SecurityOpt"],
        "security options": all(
            option == "no-new-privileges:true" or option.startswith("seccomp={") for option in host["SecurityOpt"]
        ),
        "namespaces": (host["IpcMode"], host["CgroupnsMode"]) == ("private", "private"),
        "network": host["NetworkMode"] == "ss-srv_1",
        "binds": sources == allowed and ".." not in "/".join(sources).split("/"),
        "targets": all(target.startswith("/") and ".." not in target.split("/") for _, target, _ in mounts),
        "script read-only": all(
            mode == ("ro" if source == "/srv/install/srv_1" else "rw") for source, _, mode in mounts
        ),
        "user": body["User"] == "988:989" or (install and root_user),
        "pids": host["PidsLimit"] > 0 or host["PidsLimit"] == -1,
        "restart": host["RestartPolicy"] == {"Name": "no"},
        "tmpfs": list(host["Tmpfs"]) == ["/tmp"] and "nosuid" in host["Tmpfs"]["/tmp"],
        "log": host["LogConfig"]["Type"] == "local",
        "labels": (body["Labels"]["stellarstack.node"], body["Labels"]["stellarstack.server"]) == ("node_a", "srv_1"),
        "env": all(
            "\n" not in entry and "\0" not in entry for entry in body["Env"] if not entry.startswith("STARTUP=")
        ),
    }
    return [name for name, holds in checks.items() if not holds]


class RunBodyTests(SynchronousTestCase):
    def test_fences_and_limits(self) -> None:
        """W03: every limit that was ordered is there, in Docker's units."""
        body: Any = run_body(spec({"swap": 100, "blkioWeight": 300}), PLACEMENT)
        self.assertEqual(broken_fences(body, install=False), [])
        host = body["HostConfig"]
        self.assertEqual((host["Memory"], host["MemorySwap"]), (512 * MB, 612 * MB))
        self.assertEqual((host["NanoCpus"], host["PidsLimit"], host["BlkioWeight"]), (1_500_000_000, 100, 300))
        self.assertTrue(host["ReadonlyRootfs"])
        self.assertEqual(host["Tmpfs"], {"/tmp": "rw,exec,nosuid,nodev,mode=1777,size=100m"})
        self.assertEqual(host["LogConfig"]["Config"]["max-size"], "16m")

    def test_terminal(self) -> None:
        """The terminal is held open and outlives each attach."""
        body = run_body(spec(), PLACEMENT)
        self.assertEqual(
            [body[key] for key in ("Tty", "OpenStdin", "StdinOnce", "AttachStdin")], [True, True, False, True]
        )

    def test_no_limits(self) -> None:
        """Where the node allows it, 0 is no limit, in the number that Docker takes for it."""
        host: Any = run_body(spec({"memory": 0, "cpu": 0, "pids": 0, "swap": -1}), PLACEMENT)["HostConfig"]
        self.assertEqual([host[key] for key in ("Memory", "MemorySwap", "NanoCpus", "PidsLimit")], [0, 0, 0, -1])
        self.assertEqual(run_body(spec({"swap": -1}), PLACEMENT)["HostConfig"]["MemorySwap"], -1)  # type: ignore[index,call-overload]

    def test_commands(self) -> None:
        """A string runs under /bin/sh -c in the root, words are exec'd, and nothing leaves all to the image."""
        body = run_body(spec(startup={"command": "./game && echo"}), PLACEMENT)
        self.assertEqual(
            (body["Entrypoint"], body["Cmd"], body["WorkingDir"]), (["/bin/sh", "-c"], ["./game && echo"], "/data")
        )
        body = run_body(spec(startup={"command": ["./game", "a b"], "workdir": "/opt"}), PLACEMENT)
        self.assertEqual((body["Entrypoint"], body["Cmd"], body["WorkingDir"]), (["./game"], ["a b"], "/opt"))
        body = run_body(spec(), PLACEMENT)
        self.assertFalse({"Entrypoint", "Cmd", "WorkingDir"} & set(body))

    def test_egg(self) -> None:
        """An egg's image runs its own entrypoint on STARTUP, with the root at /home/container."""
        body: Any = run_body(egg_spec(), PLACEMENT)
        self.assertEqual(broken_fences(body, install=False), [])
        self.assertFalse({"Entrypoint", "Cmd"} & set(body))
        self.assertEqual(body["HostConfig"]["Binds"], ["/srv/servers/srv_1:/home/container:rw"])
        self.assertIn(f"STARTUP={egg('egg-paper.json').startup}", body["Env"])
        self.assertEqual(body["StopSignal"], "SIGTERM")
        self.assertEqual(run_body(egg_spec("egg-lavalink.json"), PLACEMENT)["StopSignal"], "SIGINT")

    def test_ports(self) -> None:
        """tcp and udp are both published, at the address asked for, on another host port where asked."""
        ports = [
            25565,
            {"host": 7001, "container": 7000, "protocol": "udp", "ip": "::1"},
            {"host": 7002, "container": 7000},
        ]
        body: Any = run_body(spec({"ports": ports}), PLACEMENT)
        everywhere = [{"HostIp": "", "HostPort": "25565"}]
        self.assertEqual(
            body["HostConfig"]["PortBindings"],
            {
                "25565/tcp": everywhere, "25565/udp": everywhere,
                "7000/udp": [{"HostIp": "::1", "HostPort": "7001"}, {"HostIp": "", "HostPort": "7002"}],
                "7000/tcp": [{"HostIp": "", "HostPort": "7002"}],
            },
        )  # fmt: skip
        self.assertEqual(set(body["ExposedPorts"]), set(body["HostConfig"]["PortBindings"]))

    def test_init(self) -> None:
        """Signals reach the game through an init that passes them to the group, unless the image brings its own."""
        body: Any = run_body(spec(), PLACEMENT)
        self.assertTrue(body["HostConfig"]["Init"])
        self.assertIn("TINI_KILL_PROCESS_GROUP=1", body["Env"])
        body = run_body(spec(docker={"image": "a", "init": False}), PLACEMENT)
        self.assertFalse(body["HostConfig"]["Init"])
        self.assertNotIn("TINI_KILL_PROCESS_GROUP=1", body["Env"])

    def test_subfolders(self) -> None:
        """W09: further volumes are folders of the root, never other places of the host."""
        volumes = [{"container": "/d"}, {"container": "/d/world"}, {"container": "/var/log/game"}]
        body: Any = run_body(spec(volumes=volumes), PLACEMENT)
        self.assertEqual(
            body["HostConfig"]["Binds"],
            ["/srv/servers/srv_1:/d:rw", "/srv/servers/srv_1/var_log_game:/var/log/game:rw"],
        )

    def test_only_the_node_loosens(self) -> None:
        """W08: a writable root and a seccomp profile come from daemon.toml alone."""
        placement = Placement(
            "node_a",
            "c",
            1,
            2,
            "/srv/servers/srv_1",
            "ss-srv_1",
            read_only_root=False,
            seccomp='{"a":1}',
            memory_overhead=None,
        )
        host: Any = run_body(spec(), placement)["HostConfig"]
        self.assertFalse(host["ReadonlyRootfs"])
        self.assertIn('seccomp={"a":1}', host["SecurityOpt"])
        self.assertEqual(host["Memory"], 589 * MB)


class InstallBodyTests(SynchronousTestCase):
    def test_egg(self) -> None:
        """W06: an egg's installer is root with five capabilities, its limits, the root and the script read-only."""
        body: Any = install_body(egg_spec(), PLACEMENT)
        self.assertEqual(broken_fences(body, install=True), [])
        host = body["HostConfig"]
        self.assertEqual(set(host["CapAdd"]), INSTALL_CAPABILITIES)
        self.assertEqual(host["Binds"], ["/srv/servers/srv_1:/mnt/server:rw", "/srv/install/srv_1:/mnt/install:ro"])
        self.assertEqual((body["Image"], body["User"]), ("ghcr.io/parkervcp/installers:alpine", "0:0"))
        self.assertEqual((body["Entrypoint"], body["Cmd"]), (["ash"], ["/mnt/install/install.sh"]))
        self.assertEqual((host["Memory"], host["NanoCpus"], host["PidsLimit"]), (1024 * MB, 10**9, 512))
        self.assertNotIn("PortBindings", host)

    def test_native(self) -> None:
        """A native installer is the server's user with no capability, and sees the root at its usual place too."""
        body: Any = install_body(spec(install={"script": "x", "entrypoint": ["bash", "-e"]}), PLACEMENT)
        self.assertEqual(broken_fences(body, install=True), [])
        self.assertEqual(
            (body["User"], body["HostConfig"]["CapAdd"], body["Entrypoint"]), ("988:989", [], ["bash", "-e"])
        )
        self.assertTrue(body["HostConfig"]["ReadonlyRootfs"])
        self.assertIn("/srv/servers/srv_1:/data:rw", body["HostConfig"]["Binds"])

    def test_unlimited_server_has_a_limited_installer(self) -> None:
        """W03: an installer has limits even where its server has none."""
        body: Any = install_body(spec({"memory": 0, "cpu": 0, "pids": 0}, install={"script": "x"}), PLACEMENT)
        host = body["HostConfig"]
        self.assertEqual((host["Memory"], host["NanoCpus"], host["PidsLimit"]), (4096 * MB, 4 * 10**9, 512))

    def test_no_script(self) -> None:
        """Without a script there is no installer."""
        self.assertRaises(BlueprintInvalid, install_body, spec(), PLACEMENT)


HOSTILE = st.sampled_from(
    [
        "/",
        "/etc",
        "/var/run/docker.sock",
        "../..",
        "host",
        "a:b",
        "/d:/etc:rw",
        "--privileged",
        "SYS_ADMIN",
        "\n",
        "\0",
        "=",
        "{{x}}",
    ]
)
TEXT = st.one_of(HOSTILE, st.text(max_size=12))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 70000), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
FENCE_KEYS = st.sampled_from(
    ["privileged", "Privileged", "binds", "Binds", "mounts", "HostConfig", "capAdd", "CapAdd", "devices", "network",
    "NetworkMode",
     "pid", "ipc", "user", "securityOpt", "volumesFrom"]
)  # fmt: skip
COMMANDS = st.fixed_dictionaries(
    {
        "docker": st.fixed_dictionaries(
            {"image": st.sampled_from(["a", "r.io/a:1"])},
            optional={"stop_command": TEXT, "init": st.booleans(), "extra": st.dictionaries(FENCE_KEYS, JSON)},
        )
    },
    optional={
        "volumes": st.lists(st.fixed_dictionaries({"container": st.one_of(TEXT, st.sampled_from(["/d", "/d/w",
        "/x/y"]))}), max_size=3),
        "startup": st.fixed_dictionaries({"command": st.one_of(TEXT, st.lists(TEXT, max_size=3))},
        optional={"workdir": TEXT}),
        "environment": st.lists(st.fixed_dictionaries({"key": st.sampled_from(["A", "B", "C"]), "default": TEXT}),
        max_size=2),
        "install": st.fixed_dictionaries({"script": TEXT}, optional={"root": st.booleans(), "entrypoint": TEXT,
        "image": TEXT}),
        "config": st.fixed_dictionaries(
            {},
            optional={
                "memory": st.integers(0, 5000), "cpu": st.floats(0, 8), "pids": st.integers(0, 1000),
                "swap": st.integers(-1, 10),
                "ports": st.lists(st.one_of(st.integers(1, 9), st.fixed_dictionaries({"host": st.integers(1, 9),
                "ip": TEXT})), max_size=2),
                "env": st.dictionaries(st.sampled_from(["A", "Z", "STARTUP", "A=B"]), TEXT, max_size=2),
            },
        ),
        "loosen": st.dictionaries(FENCE_KEYS, JSON, max_size=3),
    },
)  # fmt: skip


class AnyCommandTests(SynchronousTestCase):
    def test_no_command_breaks_a_fence(self) -> None:
        """D01, W06, W09: no generated command gets a privilege, a namespace, a device or a mount."""
        made = 0

        @examples(150, suppress_health_check=list(HealthCheck))
        @given(COMMANDS)
        def each(command: dict[str, Any]) -> None:
            nonlocal made
            made += self.holds(command)

        each()
        self.assertGreater(made, 15 * TIMES)  # else the commands would all have been refused, and nothing been shown

    def holds(self, command: dict[str, Any]) -> bool:
        """Whether the command made a container at all."""
        document = {"id": "x", **command, **command.get("loosen", {}), **command["docker"].get("extra", {})}
        config = {"memory": 64, **command.get("config", {}), **command.get("loosen", {})}
        try:
            found = resolve(
                "srv_1", "", parse_blueprint(document), parse_server_config({"config": config}), allow_unlimited=True
            )
        except StellarError:
            return False
        bodies: list[Any] = [run_body(found, PLACEMENT)]
        self.assertEqual(broken_fences(bodies[0], install=False), [])
        if found.blueprint.install is not None:
            bodies.append(install_body(found, PLACEMENT))
            self.assertEqual(broken_fences(bodies[1], install=True), [])
        for body in bodies:
            json.dumps(body).encode()
        return True
