"""Runs a node with one real game server on it until Ctrl-C: what script/server does once all is installed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from stellarstack.ctl.control import ControlSocket, Refused

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".run"
CONFIG = RUN / "daemon.toml"
LOG = RUN / "daemon.log"
BIN = Path(sys.executable).parent
# one for each checkout: two demos on one Docker are two nodes
NODE, SERVER = f"node_demo{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}", "srv_demo"
ONLINE_WITHIN, START_WITHIN = 60.0, 120
# what the kernel takes as the path of a UNIX socket
SOCKET_PATH_LIMIT = 100


class Demo:
    """The daemon as our child, and the server that it runs."""

    def __init__(self) -> None:
        self._daemon: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        config = written_config()
        self._daemon = subprocess.Popen(
            [BIN / "twistd", "-n", "--pidfile=", "stellarstack", "-c", CONFIG],
            stdin=subprocess.DEVNULL,
            stdout=LOG.open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to pass on, in order
        )
        self._wait_online(ControlSocket(Path(config["paths"]["control_socket"])))
        self._start_server(config)
        show(config)
        self._daemon.wait()
        return self._failed(f"the daemon ended with status {self._daemon.returncode}")

    def stop(self) -> None:
        """The server by its own stop command, then the daemon."""
        if self._daemon is None:
            return
        if self._daemon.poll() is None:
            print("\nstopping the server and the daemon", flush=True)
            quietly(ctl("server", "stop", SERVER), 60)
            self._daemon.terminate()
            try:
                self._daemon.wait(15)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
        remove_leftovers()

    def _wait_online(self, control: ControlSocket) -> None:
        end = time.monotonic() + ONLINE_WITHIN
        state = "not there yet"
        while time.monotonic() < end:
            if self._daemon is not None and self._daemon.poll() is not None:
                self._failed(f"the daemon ended with status {self._daemon.returncode}")
            with suppress(Refused):
                state = str(control.get("/v1/node").get("state"))
            if state == "ONLINE":
                return
            time.sleep(0.1)
        self._failed(f"the node is {state} after {ONLINE_WITHIN:.0f} s")

    def _start_server(self, config: dict[str, Any]) -> None:
        """Through Redis, as a control plane does it."""
        redis = ("--redis", f"redis://127.0.0.1:{config['redis']['embedded_port']}", "--node", NODE)
        limit = ("--timeout", str(START_WITHIN), "--json")
        answer = said(ctl("server", "start", SERVER, *redis, *limit))
        if (answer.get("error") or {}).get("code") == "server_not_found":
            blueprint = str(ROOT / "etc" / "blueprints" / "openttd.json")
            port = str(free_port(3979))
            create = ("server", "create", SERVER, "--blueprint", blueprint, "--port", port, "--name", "OpenTTD demo")
            answer = said(ctl(*create, *redis, *limit))
        result = answer.get("result") or {}
        if answer.get("status") != "succeeded" or result.get("status") != "running":
            self._failed(f"the server did not start: {json.dumps(answer.get('error') or result.get('startError'))}")

    def _failed(self, why: str) -> NoReturn:
        tail = LOG.read_text(errors="replace").splitlines()[-10:] if LOG.exists() else []
        print("\n".join(tail), file=sys.stderr)
        raise SystemExit(f"demo: {why} (log: {LOG})")


def written_config() -> dict[str, Any]:
    """daemon.toml of the first run; later runs keep it, with new ports where others hold the old ones."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    before = tomllib.loads(CONFIG.read_text()) if CONFIG.exists() else {}
    token = before.get("node", {}).get("api_token") or f"strk_node_{secrets.token_urlsafe(32)}"
    http = free_port(before.get("server", {}).get("port", 8080))
    redis = free_port(before.get("redis", {}).get("embedded_port", 6380), http)
    sockets = socket_folder()
    text = f"""# written by script/server; it keeps the token and, where they are free, the ports
[node]
id = "{NODE}"
api_token = "{token}"

[redis]
url = "embedded"
embedded_port = {redis}
embedded_socket = {json.dumps(str(sockets / "redis.sock"))}

[server]
host = "127.0.0.1"
port = {http}

[docker]
socket = "/var/run/docker.sock"

[logging]
level = "info"

[paths]
state = {json.dumps(str(RUN / "state"))}
control_socket = {json.dumps(str(sockets / "daemon.sock"))}
"""
    CONFIG.touch(mode=0o600)
    CONFIG.write_text(text)
    return tomllib.loads(text)


def socket_folder() -> Path:
    """`.run`, or a short path to it where the checkout's is longer than a UNIX socket's may be."""
    if len(str(RUN / "daemon.sock")) < SOCKET_PATH_LIMIT:
        return RUN
    short = Path("/run") / f"stellarstack-demo-{os.getuid()}"
    short.unlink(missing_ok=True)
    short.symlink_to(RUN)
    return short


def free_port(wanted: int, *taken: int) -> int:
    """`wanted`, or any that nobody holds, on TCP and UDP."""
    for port in (wanted, 0, 0, 0):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tcp.bind(("", port))
                found = int(tcp.getsockname()[1])
                udp.bind(("", found))
            except OSError:
                continue
            if found not in taken:
                return found
    raise SystemExit("demo: found no free port")


def ctl(*words: str) -> list[str]:
    return [str(BIN / "stellarctl"), "-c", str(CONFIG), *words]


def said(command: list[str]) -> dict[str, Any]:
    """The JSON that a stellarctl answers."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=START_WITHIN + 30)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        return {"status": "failed", "error": {"code": "", "message": done.stderr.strip()}}
    return found if isinstance(found, dict) else {}


def quietly(command: list[str], timeout: float) -> None:
    try:
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout)
    except subprocess.TimeoutExpired:
        print(f"demo: {' '.join(command[:4])} did not end", file=sys.stderr)


def remove_leftovers() -> None:
    """Containers and networks of this node; the next run makes them anew, and the game's files stay in .run/."""
    label = f"label=stellarstack.node={NODE}"
    for listing, remove in (
        (["docker", "ps", "-aq", "--filter", label], ["docker", "rm", "-f"]),
        (["docker", "network", "ls", "-q", "--filter", label], ["docker", "network", "rm"]),
    ):
        found = subprocess.run(listing, capture_output=True, text=True).stdout.split()
        if found:
            quietly([*remove, *found], 30)


def show(config: dict[str, Any]) -> None:
    """What a person wants to know now."""
    rows = json.loads(subprocess.run(ctl("server", "list", "--json"), capture_output=True, text=True).stdout)
    row = next(row for row in rows if row["serverId"] == SERVER)
    port = row["ports"][0]
    game = port["host"] if isinstance(port, dict) else port
    web = f"127.0.0.1:{config['server']['port']}"
    link = said(ctl("token", "mint", SERVER, "--link", "--all", "--json")).get("link", f"http://{web}/")
    print(
        f"""
  node      {NODE} is ONLINE (http://{web}/health)
  server    {SERVER} is {row["status"]}: a dedicated OpenTTD 13
  game      {socket.gethostname()}:{game} (in OpenTTD: Multiplayer, Add server)
  web       {link}
  console   ws://{web}/console
  terminal  {" ".join(ctl("console", SERVER))}

  Paste the last line into another terminal (Ctrl-] leaves it). Ctrl-C here stops all that was started.""",
        flush=True,
    )


def main() -> int:
    demo = Demo()

    def leave(*_: object) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    try:
        return demo.run()
    except KeyboardInterrupt:
        return 0
    finally:
        demo.stop()


if __name__ == "__main__":
    sys.exit(main())
