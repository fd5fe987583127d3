"""The create bodies of core.container_spec on a real engine: taken as they are, and with the effect they promise."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import tempfile
import uuid
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from stellarstack.core.blueprint import parse_blueprint
from stellarstack.core.container_spec import Placement, install_body, run_body
from stellarstack.core.spec import ServerSpec, parse_server_config, resolve
from tests.games.images import OPENTTD, ensure_game_images

SOCKET = "/var/run/docker.sock"
IMAGE = OPENTTD  # for its bash and its user 988
GAME = "bash -c 'trap \"echo handled; exit 4\" INT TERM; echo ready-$((1+1)); while :; do sleep 0.1; done'"


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(SOCKET)


def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = _Connection("docker")
    content = json.dumps(body) if body is not None else None
    connection.request(method, f"/v1.41{path}", content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    return response.status, json.loads(raw) if raw[:1] in (b"{", b"[") else raw


def engine_answers() -> bool:
    try:
        return call("GET", "/_ping")[0] == 200
    except OSError:
        return False


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        if not engine_answers():
            raise SkipTest(f"no Docker Engine answers on {SOCKET}")
        ensure_game_images()
        self.name = f"ss-body-{uuid.uuid4().hex[:8]}"
        self.folder = Path(tempfile.mkdtemp(prefix="ss-body-"))
        self.addCleanup(shutil.rmtree, self.folder)
        for name in ("root", "install"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        os.chown(self.folder / "root", 988, 988)
        self.addCleanup(call, "DELETE", f"/containers/{self.name}?force=1")

    def spec(self, document: dict[str, Any]) -> ServerSpec:
        base: dict[str, Any] = {"id": "x", "docker": {"image": IMAGE}}
        order: Any = {"memory": 64, "cpu": 0.5, "pids": 50}
        return resolve("srv_1", "", parse_blueprint({**base, **document}), parse_server_config({"config": order}))

    def placement(self) -> Placement:
        root, install = str(self.folder / "root"), str(self.folder / "install")
        return Placement("node_a", self.name, 988, 988, root, "bridge", install_path=install)

    def start(self, body: dict[str, Any]) -> None:
        status, answer = call("POST", f"/containers/create?name={self.name}", body)
        self.assertEqual((status, answer.get("Warnings") or []), (201, []), answer)
        self.assertEqual(call("POST", f"/containers/{self.name}/start")[0], 204)

    def end(self) -> tuple[int, str]:
        """Exit code and what was printed."""
        code = call("POST", f"/containers/{self.name}/wait")[1]["StatusCode"]
        return code, call("GET", f"/containers/{self.name}/logs?stdout=1&stderr=1")[1].decode()

    def printed(self, text: str) -> None:
        """Follows the log until `text` is in it."""
        connection = _Connection("docker")
        connection.request("GET", f"/v1.41/containers/{self.name}/logs?stdout=1&follow=1")
        response, seen = connection.getresponse(), b""
        while text.encode() not in seen:
            piece = response.read1(4096)
            self.assertTrue(piece, f"the container ended without {text!r}: {seen!r}")
            seen += piece
        connection.close()

    def test_fences_hold(self) -> None:
        """W03: inside there is no capability, no root, no writable system, and nothing of the host's environment."""
        os.environ["PLANTED"] = "canary"
        self.addCleanup(os.environ.pop, "PLANTED")
        script = (
            "id -u; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; touch /x 2>&1; "
            "touch /data/y && echo wrote; "
            "touch /tmp/z && echo tmp; pwd; env"
        )
        self.start(run_body(self.spec({"startup": {"command": script}}), self.placement()))
        _, output = self.end()
        for line in (
            "988\r\n",
            "CapEff:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Read-only file system",
            "wrote",
            "tmp",
            "/data\r\n",
        ):
            self.assertIn(line, output)
        self.assertNotIn("PLANTED", output)

    def test_installer(self) -> None:
        """W06: an installer that must be root has five capabilities and no more, and its exit code is its own."""
        (self.folder / "install" / "install.sh").write_text(
            "grep CapEff /proc/self/status\ntouch /mnt/install/x\ntouch made\nexit 3\n"
        )
        plan = {"install": {"script": "x", "entrypoint": "bash", "root": True}}
        self.start(install_body(self.spec(plan), self.placement()))
        code, output = self.end()
        self.assertEqual(code, 3)
        self.assertIn("CapEff:\t00000000000000cb", output)  # CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID
        self.assertIn("Read-only file system", output)
        self.assertTrue((self.folder / "root" / "made").exists())

    def test_signals_reach_the_game(self) -> None:
        """A signal arrives at the game's own code behind a shell, for an egg's image as for a plain command."""
        egg = {
            "meta": {"version": "PTDL_v2"}, "name": "x", "docker_images": {"a": IMAGE}, "startup": GAME,
            "config": {"files": "{}", "startup": "{}", "stop": "^C"},
        }  # fmt: skip
        for document in (egg, {"startup": {"command": GAME}}):
            self.start(run_body(self.spec(document), self.placement()))
            self.printed("ready-2")  # not what the image shows of the command before it runs
            call("POST", f"/containers/{self.name}/kill?signal=SIGINT")
            code, output = self.end()
            self.assertEqual(code, 4)
            self.assertIn("handled", output)
            call("DELETE", f"/containers/{self.name}?force=1")

    def test_values_are_no_code(self) -> None:
        """W17: through a real shell in a real container, a tenant's value stays the text it is."""
        evil = "{{server.id}} $(id) `id` '\" ; id"
        document = {
            "environment": [{"key": "MOTD", "default": evil}],
            "startup": {"command": "printf '<%s>' \"{{MOTD}}\" '{{MOTD}}'"},
        }
        self.start(run_body(self.spec(document), self.placement()))
        self.assertEqual(self.end()[1], f"<{evil}><{evil}>")
