"""A throw-away Docker Engine of a test's own, which may be stopped, killed and frozen. It never meets the shared one.

It lives in a network and a mount namespace of its own: its bridges, firewall rules and mounts are seen by nobody else
and end with it. Data, sockets and cgroups have names of their own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.images import ensure_busybox_image

START_TIMEOUT = 60.0
STOP_TIMEOUT = 40.0
_CGROUPS = Path("/sys/fs/cgroup")
_PREPARE = """
ip link set lo up && mount -t tmpfs tmpfs /run/docker && mkdir -p /run/containerd &&
mount -t tmpfs tmpfs /run/containerd && echo ready && exec sleep infinity
"""


def missing_for_dockerd() -> str | None:
    """Why tests with an engine of their own cannot run here, None where they can (trial's `skip`)."""
    if os.geteuid() != 0:
        return "only root can start a Docker Engine"
    absent = [name for name in ("dockerd", "docker", "unshare", "nsenter", "ip") if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed" if absent else None


class PrivateDockerd:
    """`start`, `stop` (SIGTERM), `kill` (SIGKILL), `freeze`, `thaw`, all on the same data; `close` removes all of it.

    Its containerd is a process beside it, as where packages install them, and is not touched by any of these.
    """

    def __init__(self, *, live_restore: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="stellar-dockerd-"))
        self.socket = self.folder / "docker.sock"
        self.live_restore = live_restore
        self._cgroup = f"stellar-test-{uuid.uuid4().hex[:10]}"
        self._process: subprocess.Popen[bytes] | None = None
        self._containerd: subprocess.Popen[bytes] | None = None
        self._home = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _PREPARE], stdout=subprocess.PIPE
        )
        assert self._home.stdout is not None
        if self._home.stdout.readline() != b"ready\n":
            raise RuntimeError("no namespaces for a Docker Engine of the test's own")

    # ------------------------------------------------------------------ the process

    def start(self) -> PrivateDockerd:
        """Starts it and waits until it answers."""
        folder = self.folder
        if self._containerd is None:
            self._start_containerd()
        (folder / "daemon.json").write_text("{}")
        (folder / "pid").unlink(missing_ok=True)
        self._process = self._run(
            "dockerd", "-H", f"unix://{self.socket}", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
            "--pidfile", f"{folder}/pid", "--config-file", f"{folder}/daemon.json", "--group", "root",
            "--cgroup-parent", f"/{self._cgroup}", "--bip", "10.199.255.1/24", "--log-level", "info",
            "--containerd", f"{folder}/containerd.sock", f"--live-restore={'true' if self.live_restore else 'false'}",
        )  # fmt: skip
        self._until(self._answers, START_TIMEOUT, "dockerd to answer")
        return self

    def _start_containerd(self) -> None:
        folder = self.folder
        (folder / "containerd.toml").write_text(
            f'version = 2\nroot = "{folder}/containerd"\nstate = "{folder}/containerd-state"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{folder}/containerd.sock"\n'
        )
        self._containerd = self._run("containerd", "--config", f"{folder}/containerd.toml")
        self._until((folder / "containerd.sock").exists, START_TIMEOUT, "containerd's socket")

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        inside = ["nsenter", "-t", str(self._home.pid), "-n", "-m", "--"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*inside, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """SIGTERM, and waits for its end. Without live restore it takes the containers along."""
        self._signal(signal.SIGTERM)
        self._wait()

    def begin_stop(self) -> None:
        """SIGTERM, without waiting."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: the containers run on."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        """It accepts connections (the kernel does) and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def load_busybox(self) -> str:
        """Brings the busybox image in from the shared engine; answers its name."""
        image = ensure_busybox_image()
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run([*self._docker, "load", "-q"], stdin=saving.stdout, capture_output=True, check=True)
        return image

    def docker(self, *arguments: str, check: bool = True) -> str:
        """Runs the `docker` command on this engine; answers what it printed."""
        done = subprocess.run([*self._docker, *arguments], capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pids(self) -> list[int]:
        """Of dockerd and of its containerd."""
        return [process.pid for process in (self._process, self._containerd) if process is not None]

    # ------------------------------------------------------------------ the end

    def close(self) -> None:
        """Ends every process it started, and removes its mounts, cgroups and files."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self.kill()
        self._until(lambda: not self._end_processes(), STOP_TIMEOUT, "the engine's processes to end")
        if self._containerd is not None:
            self._containerd.wait()
        self._home.kill()
        self._home.wait()
        assert self._home.stdout is not None
        self._home.stdout.close()
        for controller in _CGROUPS.iterdir():
            _remove_cgroups(controller / self._cgroup)
        _remove_cgroups(_CGROUPS / self._cgroup)
        shutil.rmtree(self.folder)

    def _end_processes(self) -> list[int]:
        """Kills what is in its cgroup or names its folder: containerd, shims, containers."""
        found = [*self._in_cgroup(), *(pid for pid, line in _processes() if str(self.folder) in line)]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return found

    def _in_cgroup(self) -> Iterable[int]:
        for pid, _ in _processes():
            try:
                if f"/{self._cgroup}/" in Path(f"/proc/{pid}/cgroup").read_text():
                    yield pid
            except OSError:
                continue

    @property
    def _docker(self) -> list[str]:
        return ["docker", "-H", f"unix://{self.socket}"]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"dockerd ended with {self._process.returncode}; its log ends\n{self.log[-3000:]}")
        asked = [*self._docker, "version", "-f", "{{.Server.Version}}"]
        return subprocess.run(asked, capture_output=True, check=False, timeout=30).returncode == 0

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait(STOP_TIMEOUT)
        self._process = None

    def _until(self, holds: Callable[[], bool], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {timeout:g} s for {what}; the engine's log ends\n{self.log[-3000:]}")
            time.sleep(0.1)


def _processes() -> Iterable[tuple[int, str]]:
    """Every process but ourselves that is no zombie: its id and its command line."""
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        try:
            line = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if line:
            yield int(entry), line.replace(b"\0", b" ").decode(errors="replace")


def _remove_cgroups(top: Path) -> None:
    if top.is_dir():
        for folder in sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
            folder.rmdir()
        top.rmdir()
