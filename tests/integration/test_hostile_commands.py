"""W08, W09: no command changes what the daemon itself runs by, nor mounts anything of the host."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.requests import COMMAND_TYPES
from tests.integration.node_process import NodeProcess, blueprint
from tests.redis_server import RedisServer

PLACES: dict[str, Any] = {
    "paths": {"state": "/etc", "servers": "/", "control_socket": "/tmp/evil.sock"}, "allowed_mounts": ["/"],
    "docker": {"socket": "/tmp/evil.sock", "uid": 0, "read_only_root": False}, "system": {"data": "/", "sftp": {}},
    "tls": {"certificate": "/etc/passwd", "key": "/etc/shadow"}, "logging": {"file": "/etc/cron.d/evil"},
    "node": {"id": "node_evil", "api_token": "x" * 40}, "redis": {"url": "redis://192.0.2.1"},
    "mounts": [{"source": "/", "target": "/host"}, {"source": "/var/run/docker.sock", "target": "/sock"},
               {"source": "allowed/../../etc", "target": "/etc2"}],
    "configFile": "/etc/stellarstack/daemon.toml", "uuid": "x", "token": "x", "debug": True,
}  # fmt: skip
LAST = {"node.shutdown"}  # nothing is answered after it


class HostileCommandTests(SynchronousTestCase):
    def sums(self) -> dict[str, str]:
        """What stands beside the state folder: the configuration."""
        folder = self.node.folder
        files = [path for path in folder.iterdir() if path.is_file() and path.name != "log"]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def mounts(self, server_id: str) -> list[tuple[str, str]]:
        asked = ["docker", "inspect", "-f", "{{json .Mounts}}", f"{self.node.node_id}.{server_id}"]
        found = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
        return [(one["Source"], one["Destination"]) for one in found]

    def test_every_command(self) -> None:
        """W08, W09: with keys that name the daemon's own places every command leaves file, mounts and places alone."""
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        self.node = node = NodeProcess(redis.start())
        self.addCleanup(node.close)
        node.start()
        before = self.sums()
        self.assertIn("daemon.toml", before)
        shell = blueprint(node.image)
        node.run(
            "server.create",
            serverId="srv_1",
            blueprint={**shell, **PLACES, "docker": {**shell["docker"], **PLACES["docker"]}},
            config=dict(PLACES),
            **PLACES,
        )
        for kind in sorted(COMMAND_TYPES - {"server.create", "server.delete", "node.drain", *LAST}):
            more = {"command": "hello", "config": dict(PLACES), "userId": "nobody", "jti": "none"}
            node.result(node.send(kind, **{**PLACES, **more, "serverId": "srv_1"}))
        node.run("server.restart", serverId="srv_1")
        root = str(Path(node.state) / "servers" / "srv_1")
        self.assertEqual(self.mounts("srv_1"), [(root, "/data")])
        for change in ("config.update", "daemon.config", "node.configure", "server.mount"):
            result = node.result(node.send(change, **PLACES))
            self.assertEqual(result["error"]["code"], "unknown_command")
        self.assertEqual(self.sums(), before)
        self.assertEqual([Path(one).exists() for one in ("/tmp/evil.sock", "/etc/cron.d/evil")], [False, False])
        node.kill()
        node.start()
        self.assertEqual((self.sums(), node.run("node.info")["nodeId"]), (before, node.node_id))
