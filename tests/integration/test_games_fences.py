"""What fences a game and an installer on the real engine: what Docker was told, and what the kernel says of it."""

from __future__ import annotations

import json
import subprocess
from errno import EINVAL, ENOENT, ESRCH
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.games.images import MINETEST, ensure_game_images
from tests.integration.node_process import NodeProcess
from tests.integration.test_games import BLUEPRINTS
from tests.ports import free_port

USER = "988"
SERVER = "srv_1"
MB = 2**20
# what a template's author might try; none of it is ours to read
LOOSENED: dict[str, Any] = {
    "privileged": True, "user": "0:0", "cap_add": ["SYS_ADMIN"], "capAdd": ["ALL"], "binds": ["/:/host"],
    "security_opt": ["seccomp=unconfined"], "network_mode": "host", "pid_mode": "host", "read_only": False,
    "devices": ["/dev/kmsg"],
}  # fmt: skip
INSTALLERS_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 6 | 1 << 7  # CHOWN DAC_OVERRIDE FOWNER SETGID SETUID


def inspected(kind: str, name: str) -> dict[str, Any]:
    """What the engine tells; empty: there is none of this name."""
    done = subprocess.run(["docker", kind, "inspect", name], capture_output=True, text=True, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found[0] if found else {}


def processes(name: str) -> list[Path]:
    """The /proc folder of each process in a container, as the host sees it."""
    top = subprocess.run(["docker", "top", name, "-o", "pid"], capture_output=True, text=True, check=True)
    return [Path("/proc") / pid for pid in top.stdout.split()[1:]]


def status(process: Path) -> dict[str, list[str]]:
    lines = (process / "status").read_text().splitlines()
    return {key: words.split() for key, _, words in (line.partition(":") for line in lines)}


def mount_options(process: Path, place: str) -> list[str]:
    """How a process sees what is mounted at `place`."""
    rows = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    return next(row[5].split(",") for row in rows if row[4] == place)


class FenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        ensure_game_images()
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.node.start()

    def blueprint(self, **more: Any) -> dict[str, Any]:
        """Our blueprint for Minetest, by an author who wants more than is his."""
        found: dict[str, Any] = json.loads((BLUEPRINTS / "minetest.json").read_text())
        return {**found, **LOOSENED, "docker": {**found["docker"], **LOOSENED}, **more}

    def send_create(self, install: dict[str, Any] | None = None) -> tuple[str, int]:
        """The command's id, and the port of the host."""
        port = free_port()
        ports = [{"host": port, "container": 30000, "protocol": "both"}]
        config = {"memory": 256, "cpu": 0.75, "pids": 48, "disk": 512, "ports": ports}
        more: dict[str, Any] = {} if install is None else {"install": install}
        order: dict[str, Any] = {"blueprint": self.blueprint(**more), "config": config, "start": install is None}
        return self.node.send("server.create", serverId=SERVER, **order), port

    def installer(self) -> str:
        """Waits for the install container of the node; answers its name."""
        listing = ["docker", "ps", "--format", "{{.Names}}", "--filter", f"label=stellarstack.node={self.node.node_id}"]
        listing += ["--filter", "label=stellarstack.role=install"]

        def name() -> str:
            return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.strip()

        return str(self.node.until(name, 30, "the install container"))

    def assert_fenced(self, container: dict[str, Any]) -> None:
        """What holds for every container of ours."""
        host = container["HostConfig"]
        self.assertFalse(host["Privileged"])
        self.assertEqual(host["CapDrop"], ["ALL"])
        self.assertEqual(host["SecurityOpt"], ["no-new-privileges:true"])  # with Docker's own seccomp profile
        self.assertEqual((host["PidMode"], host["UTSMode"], host["IpcMode"]), ("", "", "private"))
        self.assertEqual(host["Devices"] or [], [])
        self.assertEqual(host["RestartPolicy"]["Name"], "no")
        self.assertEqual(list(host["Tmpfs"]), ["/tmp"])
        self.assertFalse(host["OomKillDisable"])
        self.assertEqual(host["MemorySwap"], host["Memory"])
        self.assertTrue(host["Memory"] > 0 and host["NanoCpus"] > 0 and host["PidsLimit"] > 0)
        network = f"{self.node.node_id}.{SERVER}"
        self.assertEqual(list(container["NetworkSettings"]["Networks"]), [network])
        self.assertEqual(inspected("network", network)["Driver"], "bridge")

    def assert_confined(self, container: str, uid: str, capabilities: int) -> None:
        """What the kernel says of each process in it: `capabilities` is all that it can ever have."""
        judged = 0
        for process in processes(container):
            try:
                said, system = status(process), mount_options(process, "/proc/sys")
            except OSError as error:
                self.assertIn(error.errno, (ENOENT, ESRCH, EINVAL))
                continue  # one of the script's own, over by now
            judged += 1
            self.assertEqual((said["Uid"], said["Gid"]), ([uid] * 4, [uid] * 4))
            self.assertTrue(set(said["Groups"]) <= {uid})
            for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                self.assertEqual(int(said[key][0], 16) & ~capabilities, 0, f"{key} of {said['Name']}")
            self.assertEqual((said["NoNewPrivs"], said["Seccomp"]), (["1"], ["2"]))
            self.assertEqual(system[0], "ro")
        self.assertTrue(judged)

    def mounts(self, container: dict[str, Any]) -> dict[str, tuple[str, str, bool]]:
        """Of all that is mounted from the host: place -> (kind, path on the host, writable)."""
        return {one["Destination"]: (one["Type"], one["Source"], one["RW"]) for one in container["Mounts"]}

    def test_running_game(self) -> None:
        """W03, W06, W09, D01: a game has no capability, no privilege, no way out of its folder, and its limits."""
        command, port = self.send_create()
        self.assertEqual(self.node.result(command)["result"]["status"], "running")
        name = f"{self.node.node_id}.{SERVER}"
        container = inspected("container", name)
        self.assert_fenced(container)
        self.assert_confined(name, USER, 0)
        host = container["HostConfig"]
        self.assertEqual((container["Config"]["User"], host["CapAdd"] or []), (f"{USER}:{USER}", []))
        self.assertTrue(host["ReadonlyRootfs"])
        for process in processes(name):
            self.assertEqual(mount_options(process, "/")[0], "ro")
        self.assertTrue(256 * MB <= host["Memory"] <= 256 * MB * 1.15)  # a margin for runtimes
        self.assertEqual((host["NanoCpus"], host["PidsLimit"]), (750_000_000, 48))
        root = str(self.node.state / "servers" / SERVER)
        self.assertEqual(self.mounts(container), {"/data": ("bind", root, True)})
        published = container["NetworkSettings"]["Ports"]
        self.assertEqual(sorted(published), ["30000/tcp", "30000/udp"])
        self.assertEqual({place["HostPort"] for places in published.values() for place in places}, {str(port)})

    def inspect_install(self, root: bool) -> tuple[dict[str, Any], str]:
        """An installer as it stands while its script waits; its name."""
        script = "until [ -e go ]; do sleep 0.1; done"
        command, _ = self.send_create({"image": MINETEST, "entrypoint": "sh", "script": script, "root": root})
        name = self.installer()
        # when the test ends, so does the script
        self.addCleanup(self.node.result, command)
        self.addCleanup((self.node.state / "servers" / SERVER / "go").touch)
        return inspected("container", name), name

    def assert_install_mounts(self, container: dict[str, Any]) -> None:
        mounts = self.mounts(container)
        script = mounts.pop("/mnt/install")
        self.assertEqual((script[0], script[2]), ("bind", False))
        self.assertTrue(script[1].startswith(f"{self.node.state}/install/"), script[1])
        root = str(self.node.state / "servers" / SERVER)
        self.assertEqual(set(mounts.values()), {("bind", root, True)})
        self.assertEqual(container["NetworkSettings"]["Ports"], {})

    def test_install(self) -> None:
        """W06: an installer is fenced as the game is: its user, no capability, a root that is read-only."""
        container, name = self.inspect_install(root=False)
        self.assert_fenced(container)
        self.assert_confined(name, USER, 0)
        self.assertTrue(container["HostConfig"]["ReadonlyRootfs"])
        self.assert_install_mounts(container)

    def test_install_as_root(self) -> None:
        """W06: an installer that must be root has the five documented capabilities, and every other fence."""
        container, name = self.inspect_install(root=True)
        self.assert_fenced(container)
        self.assert_confined(name, "0", INSTALLERS_CAPABILITIES)
        self.assert_install_mounts(container)
