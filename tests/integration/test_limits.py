"""A tenant out of control: whatever a container does, its limits hold, it is told for what it is, and others go on."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.integration.node_process import NodeProcess, Viewer
from tests.quota_kernel import NoQuotaKernel, python, run_inside

MB = 1 << 20
INTERVAL = 2.0  # seconds of disk_check_interval
LARGEST = 150 * MB  # of the daemon, K17

# A game that does what it is told, however bad it is. A bomb or a flood leaves its first shell reading.
WILD = r"""
echo loading; echo Done
while read -r line; do
  case "$line" in
    stop) echo bye; exit 0;;
    bomb) ( b() { while :; do b & sleep 300 & done; }; b ) 2>/dev/null & ;;
    hog) x=$(yes 0123456789 | head -c 200000000); echo ${#x};;
    lines) yes 'the quick brown fox jumps over the lazy dog 0123456789' | head -c 100000000; echo; echo flood is over;;
    empty) yes '' | head -c 2000000; echo flood is over;;
    endless) yes 0123456789 | busybox tr -d '\n' | head -c 200000000; echo; echo flood is over;;
    fill*) dd if=/dev/zero of=/data/fill bs=65536 count=${line#fill } conv=notrunc; echo filled;;
    *) echo "you said $line";;
  esac
done
"""


class _LimitCase(SynchronousTestCase):
    def node(self, extra: str = "", docker: str = "") -> NodeProcess:
        """`docker`: lines more for that section of its config; `extra`: for [paths]."""
        node = NodeProcess(extra=extra)
        self.addCleanup(node.close)
        node.config.write_text(node.config.read_text().replace("[docker]\n", f"[docker]\n{docker}"))
        return node.start()

    def wild(self, node: NodeProcess, server_id: str, **resources: Any) -> Viewer:
        """A server of WILD; answers a viewer of its console."""
        limits = {"memory": 32, "swap": 0, "cpu": 1.0, "disk": 64, "pids": 32, **resources}
        node.create(server_id, WILD, resources=limits)
        return self.viewer(node, server_id)

    def viewer(self, node: NodeProcess, server_id: str) -> Viewer:
        viewer = node.console(server_id)
        self.addCleanup(viewer.close)
        viewer.frame("ready")
        return viewer

    def assert_others_go_on(self, node: NodeProcess, other: Viewer, rounds: int = 20) -> None:
        """The other console echoes key by key, and commands are answered."""
        for number in range(rounds):
            other.type(b"round %d\r" % number)
            other.until(b"you said round %d\r\n" % number, 30)
            other.output = b""
        self.assertEqual(node.run("node.info")["nodeId"], node.node_id)
        self.assertEqual(node.health()["state"], "ONLINE")


class TenantTests(_LimitCase):
    def test_fork_bomb(self) -> None:
        """W03, K27: a fork bomb stays within its pids; host, other consoles and commands go on; a kill ends it."""
        node = self.node()
        bomb = self.wild(node, "srv_bomb")
        other = self.wild(node, "srv_other")
        name = f"{node.node_id}.srv_bomb"

        def went_off() -> bool:
            bomb.type(b"bomb\r")  # again, where its shells found no room and gave up
            time.sleep(1)
            return processes(name) >= 20

        node.until(went_off, 90, "the bomb to go off")
        most = 0
        for _ in range(5):
            self.assert_others_go_on(node, other, 4)
            most = max(most, processes(name))
            self.assertEqual(subprocess.run(["true"], check=False).returncode, 0)
        self.assertLessEqual(most, 32)
        stopped = node.run("server.kill", serverId="srv_bomb")
        self.assertEqual(stopped["status"], "stopped")
        self.assert_others_go_on(node, other)

    def test_memory_hog(self) -> None:
        """K20: one that takes more memory than it has is killed by the kernel, and told as `oom`; others go on."""
        node = self.node()
        hog = self.wild(node, "srv_hog")
        other = self.wild(node, "srv_other")
        hog.type(b"hog\r")
        ended = node.until(
            lambda: node.events("server.status", serverId="srv_hog", status="crashed"), 30, "the end of the hog"
        )
        self.assertEqual((ended[0]["reason"], ended[0]["exitCode"]), ("oom", 137))
        report = node.until(lambda: node.events("node.alert", code="server_crashed"), 10, "the crash report")[0]
        self.assertEqual((report["serverId"], report["oom"]), ("srv_hog", True))
        self.assert_others_go_on(node, other)
        self.assertEqual(node.run("server.start", serverId="srv_hog")["status"], "running")


class FloodTests(_LimitCase):
    def _flood(self, word: bytes) -> None:
        node = self.node()
        flood = self.wild(node, "srv_flood", cpu=2.0)
        stalled = self.viewer(node, "srv_flood")  # never reads while it floods
        other = self.wild(node, "srv_other")
        flood.type(word + b"\r")
        largest = 0
        deadline = time.monotonic() + 120
        while not self._seen(flood, b"you said over?", 1.0):
            self.assertLess(time.monotonic(), deadline, "the flood never ended")
            flood.type(b"over?\r")  # answered once the flood is through
            self.assert_others_go_on(node, other, 3)
            largest = max(largest, node.rss())
        self.assertLess(largest, LARGEST, f"{largest / MB:.0f} MB")
        self._seen(stalled, b"never printed", 2.0)  # takes what was kept for it
        flood.type(b"still here\r")
        flood.until(b"you said still here", 20)
        self.assertTrue(self._seen(stalled, b"you said still here", 30))
        self.assertTrue(word == b"empty" or any(frame["type"] == "gap" for frame in stalled.frames))
        self.assertEqual(node.events("server.status", serverId="srv_flood")[-1]["status"], "running")

    def _seen(self, viewer: Viewer, text: bytes, seconds: float) -> bool:
        """Whether `text` comes within `seconds`; of what is read only the end is kept."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                viewer.until(text, 0.1)
                return True
            except AssertionError:
                viewer.output = viewer.output[-1000:]
        return False

    def test_lines(self) -> None:
        """K17: 100 MB of lines as fast as they come: bounded memory, others go on, gaps are told, the game lives."""
        self._flood(b"lines")

    def test_empty_lines(self) -> None:
        """K17: two million empty lines."""
        self._flood(b"empty")

    def test_no_newline(self) -> None:
        """K17: 200 MB without a newline."""
        self._flood(b"endless")


class DiskTests(_LimitCase):
    def _filler(self, policy: str) -> tuple[NodeProcess, dict[str, Any]]:
        """A server of 16 MB that writes 40; answers the alert."""
        node = self.node(docker=f'disk_over = "{policy}"\ndisk_check_interval = {INTERVAL}\n')
        filler = self.wild(node, "srv_fill", disk=16)
        filler.type(b"fill 640\r")
        filler.until(b"filled", 30)
        alerts = node.until(
            lambda: node.events("node.alert", code="disk_limit"), INTERVAL + 5, "the disk limit to be noticed"
        )
        return node, alerts[0]

    def test_filler_is_stopped(self) -> None:
        """Without project quota one over its limit is noticed within 5 s of the interval, told and stopped."""
        node, alert = self._filler("stop")
        self.assertEqual((alert["serverId"], alert["limit"], alert["severity"]), ("srv_fill", 16 * MB, "warning"))
        self.assertEqual(alert["overshoot"], alert["used"] - alert["limit"])
        self.assertGreater(alert["overshoot"], 0)
        node.until(
            lambda: node.events("server.status", serverId="srv_fill", status="stopped"), 30, "the server to be stopped"
        )

    def test_filler_after_a_restart(self) -> None:
        """K07: a server that ran on over a restart of the daemon is still held to its limit."""
        node = self.node(docker=f"disk_check_interval = {INTERVAL}\n")
        self.wild(node, "srv_fill", disk=16).close()
        node.kill()
        node.start()
        filler = self.viewer(node, "srv_fill")
        filler.type(b"fill 640\r")
        filler.until(b"filled", 30)
        node.until(lambda: node.events("node.alert", code="disk_limit"), INTERVAL + 5, "the disk limit to be noticed")

    def test_filler_runs_on(self) -> None:
        """With `disk_over = "alert"` it is told, and goes on."""
        node, _ = self._filler("alert")
        self.assert_others_go_on(node, self.viewer(node, "srv_fill"))
        self.assertEqual(node.events("server.status", serverId="srv_fill")[-1]["status"], "running")


class QuotaTests(_LimitCase):
    def test_held_exactly(self) -> None:
        """Project quota on a loop-mounted ext4 holds a disk filler to its limit, to the block; a neighbour has its own.

        Where this machine's kernel was built without project quota, the same is played through under one that has it.
        """
        volume = QuotaVolume()
        self.addCleanup(volume.close)
        if volume.mounted:
            self._with_docker(volume.folder)
        else:
            self._under_other_kernel("ext4", ["mkfs.ext4", "-q", "-N", "30000", "-O", "project,quota",
                                              "-E", "quotatype=prjquota"], 128, "EDQUOT")  # fmt: skip

    def test_held_on_xfs(self) -> None:
        """XFS holds it as well, and says that there is no space left."""
        self._under_other_kernel("xfs", ["mkfs.xfs", "-q"], 400, "ENOSPC")

    def _with_docker(self, folder: Path) -> None:
        node = self.node(f'servers = "{folder}"\n')
        filler = self.wild(node, "srv_fill", disk=16)
        neighbour = self.wild(node, "srv_other", disk=16)
        filler.type(b"fill 640\r")
        filler.until(b"filled", 30)
        used = int(subprocess.run(["du", "-sk", folder / "srv_fill"], capture_output=True, text=True, check=True)
                   .stdout.split()[0]) * 1024  # fmt: skip
        self.assertTrue(16 * MB - 65536 <= used <= 16 * MB, f"{used} bytes")
        self.assertEqual(node.events("node.alert", code="disk_limit"), [])
        neighbour.type(b"fill 160\r")
        neighbour.until(b"filled", 30)
        self.assertEqual((folder / "srv_other/fill").stat().st_size, 160 * 65536)
        node.run("server.delete", serverId="srv_fill")
        self.assertEqual(node.run("server.list")["servers"][0]["serverId"], "srv_other")

    def _under_other_kernel(self, kind: str, make: list[str], megabytes: int, refusal: str) -> None:
        with tempfile.NamedTemporaryFile(prefix="stellar-quota-") as image:
            image.truncate(megabytes * MB)
            subprocess.run([*make, image.name], check=True, capture_output=True)
            try:
                status, text = run_inside([python(), "-m", "tests.quota_scenes", kind, "/dev/ubdb"], Path(image.name))
            except NoQuotaKernel as missing:
                raise SkipTest(f"neither this kernel nor User Mode Linux keeps project quotas: {missing}") from None
        self.assertEqual(status, 0, text)
        self._judge(json.loads(text.splitlines()[-1]), refusal)

    def _judge(self, told: dict[str, Any], refusal: str) -> None:
        self.assertTrue(told["exact"])
        self.assertTrue(100_000 < told["before"] < 200_000, told["before"])
        for key, limit in (("full", 8 * MB), ("raised", 16 * MB)):
            used = told[key] if key == "full" else told[key][1]
            self.assertTrue(limit - 65536 <= used <= limit, f"{key}: {used}")
        self.assertEqual([told["filled"][1], told["neighbour"][1], told["raised"][0]], [refusal] * 3)
        self.assertTrue(3 * MB < told["neighbour"][0] < 4 * MB, told["neighbour"])
        self.assertEqual(told["empty_files"][1], refusal)
        self.assertLess(told["empty_files"][0], 10_000)
        self.assertEqual(told["outside"], 0)
        self.assertTrue(told["same_number"])
        self.assertEqual(told["forgotten"], [0, {}])


class QuotaVolume:
    """An ext4 with project quota on a loop device. `mounted`: this machine's kernel can have it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stellar-volume-"))
        self.folder.chmod(0o755)
        self._image = self.folder.with_suffix(".img")
        with self._image.open("wb") as image:
            image.truncate(256 * MB)
        make: list[str | Path] = ["mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota", self._image]
        subprocess.run(make, check=True, capture_output=True)
        mount: list[str | Path] = ["mount", "-o", "loop,prjquota", self._image, self.folder]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", self.folder], check=False)
        self._image.unlink()
        self.folder.rmdir()


def processes(container: str) -> int:
    """How many a container has now, as its cgroup counts them."""
    form = ["docker", "inspect", "-f", "{{.State.Pid}}", container]
    pid = subprocess.run(form, capture_output=True, text=True, check=True).stdout.strip()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if controllers == "pids" or number == "0":
            for root in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
                counter = Path(f"{root}{path}/pids.current")
                if counter.exists():
                    return int(counter.read_text())
    raise AssertionError(f"{container} has no counter of its processes")
