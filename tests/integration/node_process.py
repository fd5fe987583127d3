"""A real daemon as a child process, with a Redis of its own and the panel's and a viewer's side of the wire."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt

from stellarstack.ctl.websocket import Address, ConsoleSocket
from tests.images import ensure_busybox_image
from tests.ports import free_port
from tests.redis_server import Ask, RedisServer

CHECKOUT = Path(__file__).resolve().parents[2]
TOKEN = "strk_node_" + "7" * 40
DOCKER = Path("/var/run/docker.sock")
UP_TIMEOUT = 30.0

# A game of three lines: says it is up, prints what is typed, ends on `stop`.
GAME = """
echo loading; echo Done
while read -r line; do
  case "$line" in
    stop) echo bye; exit 0;;
    crash) exit 3;;
    count*) n=0; while [ $n -lt ${line#count } ]; do n=$((n+1)); echo "line $n"; done;;
    size) stty size;;
    *) echo "you said $line";;
  esac
done
"""


def blueprint(image: str, script: str = GAME, **more: Any) -> dict[str, Any]:
    """A server of a shell script."""
    ready = {"type": "log", "pattern": "Done", "timeout": 30}
    return {
        "id": "shell", "name": "Shell", "docker": {"image": image, "stop_command": "stop", "stop_timeout": 10},
        "resources": {"memory": 32, "cpu": 0.5, "disk": 64, "pids": 32},
        "startup": {"command": ["/bin/sh", "-c", script], "readyCheck": ready},
        "crash": {"restart": False}, **more,
    }  # fmt: skip


class NodeProcess:
    """`start`, `kill` (as kill -9), `term`; `close` removes all it made. `redis` is None with the embedded one.

    `docker`: the engine's socket. One of the test's own takes its containers with it when it goes.
    """

    def __init__(self, redis: RedisServer | None = None, extra: str = "", docker: Path = DOCKER) -> None:
        self.node_id = f"node_t{uuid.uuid4().hex[:10]}"
        self.folder = Path(tempfile.mkdtemp(prefix="stellar-node-"))
        self.state = self.folder / "state"
        self.redis = redis
        self._docker = docker
        self.port = free_port()
        self.redis_port = redis.port if redis is not None else free_port()
        self.image = ensure_busybox_image()
        self.config = self.folder / "daemon.toml"
        url = redis.url if redis is not None else "embedded"
        embedded = "" if redis is not None else f"embedded_port = {self.redis_port}\n"
        self.config.write_text(
            f'[node]\nid = "{self.node_id}"\napi_token = "{TOKEN}"\n[redis]\nurl = "{url}"\n{embedded}'
            f'[server]\nhost = "127.0.0.1"\nport = {self.port}\n[docker]\nsocket = "{docker}"\n'
            f'[logging]\nlevel = "debug"\n[paths]\nstate = "{self.state}"\n'
            f'control_socket = "{self.folder}/daemon.sock"\n{extra}'
        )
        self.process: subprocess.Popen[bytes] | None = None
        self._ask: Ask | None = None

    # ------------------------------------------------------------------ the process

    def start(self) -> NodeProcess:
        """Starts it and waits until it is ONLINE."""
        self.launch()
        self.until(lambda: self.health().get("state") == "ONLINE", UP_TIMEOUT, "the node to be ONLINE")
        return self

    def launch(self) -> None:
        """Starts it and waits for nothing."""
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", "stellarstack", "-c", str(self.config)]
        environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, env=environ
            )

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def term(self, timeout: float = 15.0) -> int:
        """SIGTERM; answers the exit status."""
        return self._end(signal.SIGTERM, timeout)

    def _end(self, number: int, timeout: float = 15.0) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(timeout)

    def close(self) -> None:
        """Stops it and removes its containers, networks and files."""
        self.term()
        if self._docker == DOCKER:
            self._sweep()
        if self._ask is not None:
            self._ask.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self) -> None:
        for kind, remove in (("container", "rm -f"), ("network", "rm")):
            listing = ["docker", kind, "ls", "-q", *(["-a"] if kind == "container" else [])]
            found = subprocess.run(
                [*listing, "--filter", f"label=stellarstack.node={self.node_id}"],
                capture_output=True, text=True, check=True,
            ).stdout.split()  # fmt: skip
            if found:
                subprocess.run(["docker", kind, *remove.split(), *found], capture_output=True, check=False)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def rss(self) -> int:
        """Resident memory in bytes."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def forget_peak(self) -> None:
        """From now on `peak` is of what comes."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """The most resident memory there was, in bytes."""
        assert self.process is not None
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024

    def holds(self) -> tuple[int, int]:
        """How many descriptors and threads it has."""
        assert self.process is not None
        of = Path(f"/proc/{self.process.pid}")
        return len(list((of / "fd").iterdir())), len(list((of / "task").iterdir()))

    def until(self, holds: Callable[[], Any], timeout: float, what: str) -> Any:
        """Waits until `holds` is true and answers what it said; AssertionError with the log's end where it never is."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited {timeout:g} s for {what}; the log ends with\n{self.log[-4000:]}")

    # ------------------------------------------------------------------ the panel's side

    @property
    def ask(self) -> Ask:
        """A connection to its Redis."""
        if self._ask is None:
            login = () if self.redis is not None else (TOKEN,)
            self._ask = Ask(("127.0.0.1", self.redis_port), login, timeout=30)
        return self._ask

    def forget_redis(self) -> None:
        """The Redis was restarted: the next question dials anew."""
        self._ask = None

    def send(self, kind: str, command_id: str = "", *, queue: bool = True, **payload: Any) -> str:
        """Sends a command, by the queue or by pub/sub; answers its id."""
        command_id = command_id or f"cmd_{uuid.uuid4().hex}"
        body = json.dumps({"id": command_id, "type": kind, "payload": payload, "timestamp": time.time()})
        channel = f"stellar:nodes:{self.node_id}:commands"
        if queue:
            self.ask("XADD", f"{channel}:queue", "*", "command", body)
        else:
            self.ask("PUBLISH", channel, body)
        return command_id

    def events(self, kind: str = "", **fields: Any) -> list[dict[str, Any]]:
        """What is in events:log, in order."""
        entries = self.ask("XRANGE", f"stellar:nodes:{self.node_id}:events:log", "-", "+")
        bodies = [json.loads(entry[1][1]) for entry in entries]
        return [b for b in bodies if kind in ("", b["type"]) and all(b.get(k) == v for k, v in fields.items())]

    def result(self, command_id: str, timeout: float = 60.0) -> dict[str, Any]:
        """Waits for a command's result."""
        self.until(lambda: self.events("command.result", commandId=command_id), timeout, f"the result of {command_id}")
        found: dict[str, Any] = self.events("command.result", commandId=command_id)[0]
        return found

    def run(self, kind: str, **payload: Any) -> dict[str, Any]:
        """Sends a command and answers the `result` of its success."""
        result = self.result(self.send(kind, **payload))
        if result["status"] != "succeeded":
            raise AssertionError(f"{kind}: {result}")
        answer: dict[str, Any] = result["result"]
        return answer

    def create(self, server_id: str, script: str = GAME, **more: Any) -> dict[str, Any]:
        """A server of a shell script, running."""
        config = more.pop("config", {})
        return self.run(
            "server.create", serverId=server_id, blueprint=blueprint(self.image, script, **more), config=config
        )

    # ------------------------------------------------------------------ a viewer's side

    def health(self) -> dict[str, Any]:
        """GET /health; empty while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            found = json.loads(error.read())
        except OSError:
            return {}
        return found

    def token(
        self, server_id: str, permissions: Any = None, lifetime: float = 300.0, *, issued: float | None = None
    ) -> str:  # fmt: skip
        """A console token, as the panel would sign it."""
        now = time.time() if issued is None else issued
        claims = {
            "iss": "stellarstack", "sub": "user_1", "aud": self.node_id, "iat": now, "exp": now + lifetime,
            "jti": uuid.uuid4().hex, "serverId": server_id,
            "permissions": {"canRead": True, "canWrite": True} if permissions is None else permissions,
        }  # fmt: skip
        return "strk_console_" + jwt.encode(claims, (self.state / "jwt_secret").read_text().strip(), "HS256")

    def console(self, server_id: str, query: str = "") -> Viewer:
        """A viewer by the raw subprotocol."""
        address = Address("127.0.0.1", self.port)
        return Viewer(ConsoleSocket.open(address, f"/console{query}", self.token(server_id)), self)


class Viewer:
    """What one viewer has seen: `output` all terminal bytes, `frames` the JSON frames in order."""

    def __init__(self, session: ConsoleSocket, node: NodeProcess) -> None:
        self.session = session
        self._node = node
        self.output = b""
        self.frames: list[dict[str, Any]] = []
        self._take(session.waiting())

    def _take(self, found: list[bytes | dict[str, Any]]) -> None:
        for one in found:
            if isinstance(one, bytes):
                self.output += one
            else:
                self.frames.append(one)

    def until(self, text: bytes, timeout: float = 20.0) -> bytes:
        """Reads until `text` was seen; answers all output so far."""
        deadline = time.monotonic() + timeout
        while text not in self.output:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"{text!r} never came; the output ends {self.output[-500:]!r}")
            if select.select([self.session], [], [], left)[0]:
                self._take(self.session.receive())
        return self.output

    def read_once(self, timeout: float) -> None:
        """What comes next, if anything does."""
        if select.select([self.session], [], [], timeout)[0]:
            self._take(self.session.receive())

    def frame(self, kind: str, timeout: float = 20.0) -> dict[str, Any]:
        """The first frame of this type, waited for."""
        deadline = time.monotonic() + timeout
        while True:
            for frame in self.frames:
                if frame["type"] == kind:
                    return frame
            if not select.select([self.session], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"no frame {kind!r} came; {self.frames[-5:]}")
            self._take(self.session.receive())

    def type(self, text: bytes) -> None:
        self.session.type(text)

    def close(self) -> None:
        self.session.close()
