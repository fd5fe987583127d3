"""stellarctl through a real Redis, with a stand-in that answers as a node does."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.redis_server import RedisServer, missing

NODE = "node_ctl"
QUEUE, LOG = f"stellar:nodes:{NODE}:commands:queue", f"stellar:nodes:{NODE}:events:log"


class TestThroughRedis(SynchronousTestCase):
    """One stellarctl process each time."""

    skip = missing()

    def setUp(self) -> None:
        self.redis = RedisServer("requirepass strk_node_token").start()
        self.addCleanup(self.redis.stop)
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(self.folder.rmdir)
        self.config = self.folder / "daemon.toml"
        self.config.write_text(f'[node]\nid = "{NODE}"\napi_token = "strk_node_token"\n')
        self.addCleanup(self.config.unlink)
        self.seen: list[dict[str, Any]] = []

    def stellarctl(self, *words: str, status: int = 0) -> str:
        code = "import sys; from stellarstack.ctl.main import main; sys.exit(main())"
        where = ("-c", str(self.config), "--redis", self.redis.url, "--node", NODE)
        done = subprocess.run(
            [sys.executable, "-c", code, *where, *words], text=True, capture_output=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def node_answers(self, result: Any, status: str = "succeeded") -> None:
        """Answers the next command of the queue, as a node does."""

        def answer() -> None:
            ask = self.redis.ask("strk_node_token")
            (found,) = ask("XREAD", "BLOCK", "20000", "STREAMS", QUEUE, "0")
            command = json.loads(found[1][0][1][1])
            self.seen.append(command)
            for kind, more in (("command.ack", {}), ("command.result", {"status": status, "result": result})):
                event = {"type": kind, "commandId": command["id"], "timestamp": 1.0, **more}
                ask("XADD", LOG, "*", "event", json.dumps(event))
            ask.close()

        thread = threading.Thread(target=answer)
        thread.start()
        self.addCleanup(thread.join)

    def test_command(self) -> None:
        """A command goes onto the queue and its result comes out of the log; the token of the config logs in."""
        self.node_answers({"status": "running"})
        self.assertIn("status  running", self.stellarctl("server", "start", "s"))
        self.assertEqual((self.seen[0]["type"], self.seen[0]["payload"]), ("server.start", {"serverId": "s"}))

    def test_list(self) -> None:
        """`server list` asks by a command."""
        self.node_answers({"servers": [{"serverId": "s", "status": "stopped"}]})
        self.assertIn("stopped", self.stellarctl("server", "list"))

    def test_refused(self) -> None:
        """A refusal is one line and status 1."""
        self.node_answers(None, status="failed")
        self.assertIn("server.kill failed", self.stellarctl("server", "kill", "s", status=1))

    def test_events(self) -> None:
        """The past is read from the node's log."""
        ask = self.redis.ask("strk_node_token")
        for number in range(3):
            ask("XADD", LOG, f"{number + 1}-0", "event", json.dumps({"type": "node.status", "n": number}))
        ask.close()
        found = [json.loads(line)["n"] for line in self.stellarctl("events", "-n", "2", "--json").splitlines()]
        self.assertEqual(found, [1, 2])

    def test_nobody(self) -> None:
        """A node that does not answer, a password that is wrong and a Redis that is not there are told apart."""
        self.assertIn(
            "did not answer within 0.2 s", self.stellarctl("--timeout", "0.2", "server", "start", "s", status=1)
        )
        self.config.write_text(f'[node]\nid = "{NODE}"\napi_token = "wrong-canary"\n')
        told = self.stellarctl("server", "list", status=1)
        self.assertNotIn("canary", told)
        self.assertIn("token", told)
        self.redis.kill()
        self.assertIn("no connection to Redis", self.stellarctl("server", "list", status=1))
