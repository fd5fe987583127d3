"""`stellarctl doctor`: each fault is found and comes with its cure."""

from __future__ import annotations

import io
import json
import os
import socket
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.ctl import checks, doctor, engine
from stellarstack.ctl.doctor import Check, Doctor, Verdict, show
from stellarstack.errors import RedisUnavailable
from tests.ctl_fakes import UnixHttp, finished

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41"}
GOOD_ENGINE = {
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "LiveRestoreEnabled": True,
}
Disk = namedtuple("Disk", "f_bavail f_blocks f_frsize f_favail f_files")


class FakeWire:
    """Redis, as far as TIME goes."""

    def __init__(self, now: float | Exception) -> None:
        self._now = now

    async def call(self, *_: object) -> list[bytes]:
        if isinstance(self._now, Exception):
            raise self._now
        return [str(int(self._now)).encode(), b"0"]

    def drop(self, _: str) -> None:
        pass


class DoctorCase(SynchronousTestCase):
    """A node that is well; each test makes one thing ill."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.config = self.folder / "daemon.toml"
        self.redis: FakeWire | Exception = FakeWire(time.time())
        # the path of a UNIX socket is short; trial's folders are not
        self.short = Path(f"/tmp/doctor-{id(self)}-{time.monotonic_ns()}")
        self.short.mkdir()
        self.addCleanup(os.rmdir, self.short)
        self.engine_info: dict[str, Any] = dict(GOOD_ENGINE)
        self.version: dict[str, Any] = dict(VERSION)
        self.state = "ONLINE"
        self.port = 0
        self.url = "redis://127.0.0.1:6379"
        self.patch(doctor, "dialer", lambda *_: self)
        self.patch(checks, "clock_synchronised", lambda: True)
        self.patch(checks, "cgroup", lambda: (2, ()))
        self.patch(os, "statvfs", lambda _: Disk(500_000, 1_000_000, 4096, 10, 10))

    async def dial(self) -> Any:
        if isinstance(self.redis, Exception):
            raise self.redis
        return self.redis

    def serve(self, name: str, answers: dict[str, Any]) -> Path:
        path = self.short / name
        server = UnixHttp(path, answers)
        self.addCleanup(path.unlink)
        self.addCleanup(server.stop)
        return path

    def examined(self, *, docker: bool = True, daemon: bool = True, node: str = 'id = "node_a"') -> dict[str, Check]:
        sockets = {"docker": self.short / "none", "daemon": self.short / "none"}
        if docker:
            answers = {"GET /version": (200, self.version), "GET /info": (200, self.engine_info)}
            sockets["docker"] = self.serve("docker", answers)
        if daemon:
            sockets["daemon"] = self.serve("daemon", {"GET /v1/node": (200, {"state": self.state})})
        self.config.write_text(
            f'[node]\n{node}\n[redis]\nurl = "{self.url}"\n[docker]\nsocket = "{sockets["docker"]}"\n'
            f'[server]\nport = {self.port}\n[paths]\nstate = "{self.folder / "state"}"\n'
        )
        self.config.chmod(0o600)
        return self.check(sockets["daemon"])

    def check(self, daemon: Path | None = None) -> dict[str, Check]:
        found = Doctor(path=self.config, environ={}, socket=daemon, run=lambda work: finished(work(None))).examine()
        return {check.name: check for check in found}

    def ill(self, found: dict[str, Check], name: str, verdict: Verdict, *told: str) -> None:
        self.assertEqual(found[name].verdict, verdict, found[name])
        for text in told:
            self.assertIn(text, f"{found[name].found} {found[name].mend}")
        others = [check for check in found.values() if check.name != name and check.verdict is not Verdict.GOOD]
        self.assertEqual(others, [])


class TestDoctor(DoctorCase):
    """One ill thing at a time."""

    def test_well(self) -> None:
        """A healthy node has nothing to mend, and every promised check is made."""
        found = self.examined()
        self.assertEqual([check for check in found.values() if check.verdict is not Verdict.GOOD or check.mend], [])
        self.assertEqual(
            list(found),
            [
                "config",
                "docker",
                "limits",
                "live-restore",
                "redis",
                "folders",
                "disk",
                "ports",
                "cgroup",
                "clock",
                "daemon",
            ],
        )

    def test_config(self) -> None:
        """A file that cannot be used is the one finding; one without a node, or readable by others, is told."""
        self.config.write_text("[nodes]")
        found = self.check()
        self.assertEqual(list(found), ["config"])
        self.assertIn("did you mean node?", found["config"].found)
        self.ill(self.examined(node=""), "config", Verdict.BAD, "OFFLINE", "api_token")
        self.config.write_text(self.config.read_text().replace("[node]", '[node]\nid = "node_a"'))
        self.config.chmod(0o644)
        self.assertIn("chmod 600", self.check()["config"].mend)

    def test_docker(self) -> None:
        """An engine that does not answer, is too old, cannot limit, or takes the servers down with it."""
        self.ill(self.examined(docker=False), "docker", Verdict.BAD, "no Docker answers", "docker.io")

    def test_old_docker(self) -> None:
        """An engine with an API that is too old is named with its version."""
        self.version = {"Version": "18.09", "ApiVersion": "1.39"}
        self.ill(self.examined(), "docker", Verdict.BAD, "18.09", "1.39")

    def test_limits(self) -> None:
        """What the engine cannot limit is named."""
        self.engine_info["SwapLimit"] = False
        self.ill(self.examined(), "limits", Verdict.POOR, "cannot limit swap", "swapaccount")

    def test_live_restore(self) -> None:
        """Without live-restore a restart of Docker ends the game servers."""
        self.engine_info["LiveRestoreEnabled"] = False
        self.ill(self.examined(), "live-restore", Verdict.POOR, "daemon.json")

    def test_redis(self) -> None:
        """A Redis that does not answer is told in the words of the connection."""
        self.redis = RedisUnavailable("no connection to Redis: refused")
        self.ill(self.examined(), "redis", Verdict.BAD, "refused", "redis")

    def test_embedded_redis(self) -> None:
        """The daemon's own Redis is started by starting the daemon."""
        self.redis, self.url = RedisUnavailable("no connection"), "embedded"
        self.ill(self.examined(), "redis", Verdict.BAD, "start the daemon")

    def test_redis_clock(self) -> None:
        """Clocks apart are told; a Redis that does not say the time is not blamed."""
        self.redis = FakeWire(time.time() - 300)
        self.ill(self.examined(), "redis", Verdict.BAD, "s apart", "NTP")

    def test_redis_without_time(self) -> None:
        """An ACL that does not allow TIME is no fault."""
        self.redis = FakeWire(RedisUnavailable("NOPERM"))
        self.assertIs(self.examined()["redis"].verdict, Verdict.GOOD)

    def test_plain_redis(self) -> None:
        """R02: an unencrypted Redis on another machine is warned of, without showing the password."""
        self.url = "redis://u:canary@redis.example.com"
        found = self.examined()
        self.ill(found, "redis", Verdict.POOR, "unencrypted", "rediss://")
        self.assertNotIn("canary", found["redis"].found)

    def test_folders(self) -> None:
        """A state folder that is a file is told."""
        (self.folder / "state").touch()
        self.ill(self.examined(), "folders", Verdict.BAD, "is no folder", "install -d")

    def test_disk(self) -> None:
        """Little space is a warning, next to none or no inodes a fault."""
        rows = (
            (Disk(100_000, 1_000_000, 4096, 1, 1), Verdict.BAD, "GiB"),
            (Disk(1_400_000, 10_000_000, 4096, 1, 1), Verdict.POOR, "14 %"),
            (Disk(5_000_000, 10_000_000, 4096, 0, 9), Verdict.BAD, "no inodes"),
            (Disk(5_000_000, 10_000_000, 4096, 0, 0), Verdict.GOOD, "50 %"),
        )
        self.examined()
        for disk, verdict, told in rows:
            self.patch(os, "statvfs", lambda _, disk=disk: disk)
            check = self.check()["disk"]
            self.assertIs(check.verdict, verdict)
            self.assertIn(told, check.found)

    def test_ports(self) -> None:
        """A port that another holds is told, unless it is the daemon itself that holds it."""
        self.assertIs(self.examined(daemon=False)["ports"].verdict, Verdict.GOOD)
        self.doCleanups()
        self.setUp()
        self.patch(checks, "listen_fault", lambda *_: "Address already in use")
        found = self.examined(daemon=False)["ports"]
        self.assertIs(found.verdict, Verdict.BAD)
        self.assertIn("Address already in use", found.found)

    def test_cgroup(self) -> None:
        """Missing cgroups or controllers are told."""
        self.patch(checks, "cgroup", lambda: (0, ("memory",)))
        self.ill(self.examined(), "cgroup", Verdict.BAD, "no cgroups")
        self.patch(checks, "cgroup", lambda: (1, ("memory",)))
        self.assertIn("v1 without memory", self.check()["cgroup"].found)

    def test_clock(self) -> None:
        """A clock that nothing keeps is a warning, one that cannot be asked is not."""
        self.patch(checks, "clock_synchronised", lambda: False)
        self.ill(self.examined(), "clock", Verdict.POOR, "timesyncd")
        self.patch(checks, "clock_synchronised", lambda: None)
        self.assertIs(self.check()["clock"].verdict, Verdict.GOOD)

    def test_daemon(self) -> None:
        """A daemon that does not run or is not ONLINE is told with its state; the port that it holds is not blamed."""
        self.state = "UNHEALTHY"
        self.patch(checks, "listen_fault", lambda *_: "Address already in use")
        self.ill(self.examined(), "daemon", Verdict.BAD, "UNHEALTHY")

    def test_daemon_that_starts(self) -> None:
        """A daemon that lives and does not answer yet is no other who holds the port."""
        self.patch(checks, "listen_fault", lambda *_: "Address already in use")
        self.patch(checks, "holder", lambda lock: 4711 if lock == self.folder / "state" / "daemon.lock" else 0)
        self.ill(self.examined(daemon=False), "daemon", Verdict.BAD, "4711", "starting")


class TestChecks(SynchronousTestCase):
    """The measurements, on the machine itself."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)

    def test_folder_faults(self) -> None:
        """A folder that can be made is good; one below a file or without permission is not."""
        self.assertEqual(checks.folder_fault("state", self.folder / "a" / "b"), "")
        self.patch(os, "access", lambda *_: False)
        self.assertIn("cannot be written", checks.folder_fault("state", self.folder))
        self.assertIn("cannot be made in", checks.folder_fault("state", self.folder / "a"))

    def test_holder(self) -> None:
        """The process in a lock file counts where it lives and is a daemon."""
        lock, proc = self.folder / "daemon.lock", self.folder / "proc"
        self.assertEqual(checks.holder(lock, proc), 0)
        for number, words in (("7", b"twistd\0stellarstack\0-c\0x"), ("8", b"sshd")):
            (proc / number).mkdir(parents=True)
            (proc / number / "cmdline").write_bytes(words)
        for text, expected in (("7\n", 7), ("8\n", 0), ("9\n", 0), ("", 0), ("x", 0), ("7/../8", 0)):
            lock.write_text(text)
            self.assertEqual(checks.holder(lock, proc), expected, text)

    def test_listen_fault(self) -> None:
        """What cannot be listened on is told in the system's words; port 0 is always free."""
        self.assertEqual(checks.listen_fault("127.0.0.1", 0), "")
        self.assertNotEqual(checks.listen_fault("192.0.2.1", 0), "")
        self.patch(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no such name")))
        self.assertEqual(checks.listen_fault("nowhere", 0), "no such name")

    def test_cgroup(self) -> None:
        """Both versions are told apart, with the controllers that lack."""
        self.assertEqual(checks.cgroup(self.folder), (0, ("memory", "cpu", "pids")))
        for name in ("memory", "cpu,cpuacct"):
            (self.folder / name).mkdir()
        self.assertEqual(checks.cgroup(self.folder), (1, ("pids",)))
        (self.folder / "cgroup.controllers").write_text("cpu memory pids io\n")
        self.assertEqual(checks.cgroup(self.folder), (2, ()))

    def test_clock(self) -> None:
        """The kernel can be asked, and a time that is not known is not far away."""
        self.assertIn(checks.clock_synchronised(), (True, False, None))
        self.assertEqual(checks.clock_away(0.0), 0.0)
        self.assertGreater(checks.clock_away(1.0), 1e9)

    def test_existing(self) -> None:
        """The nearest folder that exists."""
        self.assertEqual(checks.existing(self.folder / "a" / "b"), self.folder)

    def test_engine_without_quota_key(self) -> None:
        """An engine that leaves a key out is not blamed for it."""
        path = Path(f"/tmp/engine-{id(self)}-{time.monotonic_ns()}.sock")
        server = UnixHttp(path, {"GET /version": (200, VERSION), "GET /info": (200, {"MemoryLimit": True})})
        self.addCleanup(path.unlink)
        self.addCleanup(server.stop)
        found = engine.look(path)
        self.assertEqual((found.lacks, found.live_restore, found.api), ((), False, (1, 41)))


class TestShow(SynchronousTestCase):
    """The report."""

    def test_lines(self) -> None:
        """A line for each check, its cure below; status 1 only where something fails."""
        out = io.StringIO()
        poor = Check("clock", Verdict.POOR, "odd\x1b[2J", "mend it")
        self.assertEqual(show([doctor.good("redis", "answers"), poor], out, as_json=False), 0)
        self.assertEqual(out.getvalue(), "ok    redis  answers\nwarn  clock  odd [2J\n             → mend it\n")
        out = io.StringIO()
        self.assertEqual(show([Check("disk", Verdict.BAD, "full", "empty it")], out, as_json=True), 1)
        self.assertEqual(json.loads(out.getvalue())[0]["verdict"], "fail")
