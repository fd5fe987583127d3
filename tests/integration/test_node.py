"""The whole daemon against a real Docker and a real Redis: what people see when all works, and when things die."""

from __future__ import annotations

import json
import re
import subprocess
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import TOKEN, NodeProcess, blueprint
from tests.redis_server import Ask, RedisServer


def docker_start_time(node: NodeProcess, server_id: str) -> str:
    """When and as which process the container was started."""
    form = "{{.State.StartedAt}} {{.State.Pid}} {{.RestartCount}}"
    command = ["docker", "inspect", "-f", form, f"{node.node_id}.{server_id}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def runs(node: NodeProcess, server_id: str) -> bool:
    """Whether its container runs, as the engine says."""
    command = ["docker", "ps", "-q", "--filter", f"name={node.node_id}.{server_id}"]
    return bool(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


class _NodeCase(SynchronousTestCase):
    def node(self, redis: RedisServer | None = None, extra: str = "") -> NodeProcess:
        node = NodeProcess(redis, extra)
        self.addCleanup(node.close)
        return node.start()

    def redis(self) -> RedisServer:
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        return redis.start()

    def assert_unbroken(self, events: list[dict[str, Any]]) -> None:
        """`seq` counts 1, 2, 3 …: none is missing, none is there twice."""
        self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))


class MainJobTests(_NodeCase):
    def test_from_create_to_delete(self) -> None:
        """Create, type, stop, start, kill and delete over Redis, with the console live in a WebSocket."""
        node = self.node()
        made = node.create("srv_1")
        self.assertEqual(made["status"], "running")
        viewer = node.console("srv_1")
        self.addCleanup(viewer.close)
        ready = viewer.frame("ready")
        self.assertEqual(viewer.frames[0], ready)
        self.assertEqual((ready["serverId"], ready["status"], ready["canWrite"]), ("srv_1", "running", True))
        viewer.until(b"Done")
        viewer.type(b"hello\r")
        viewer.until(b"you said hello")
        node.run("server.command", serverId="srv_1", command="again")
        viewer.until(b"you said again")
        stopped = node.run("server.stop", serverId="srv_1")
        self.assertEqual(stopped, {"status": "stopped", "exitCode": 0, "forced": False})
        self.assertEqual(node.run("server.start", serverId="srv_1")["status"], "running")
        self.assertEqual(node.run("server.kill", serverId="srv_1")["exitCode"], 137)
        node.run("server.delete", serverId="srv_1")
        self.assertEqual(node.run("server.list"), {"servers": []})
        left = subprocess.run(["docker", "ps", "-aq", "--filter", f"label=stellarstack.node={node.node_id}"],
                              capture_output=True, text=True, check=True).stdout  # fmt: skip
        self.assertEqual(left, "")
        self.assert_unbroken(node.events())

    def test_resize_reaches_the_game(self) -> None:
        """A viewer's resize changes the size of the game's own terminal."""
        node = self.node()
        node.create("srv_1")
        viewer = node.console("srv_1")
        self.addCleanup(viewer.close)
        viewer.frame("ready")
        viewer.session.send({"type": "resize", "cols": 101, "rows": 37})
        time.sleep(0.5)
        viewer.type(b"size\r")
        viewer.until(b"37 101")

    def test_stops_within_ten_seconds(self) -> None:
        """K30: SIGTERM ends the daemon with status 0, viewers with 1001, and leaves the game running."""
        node = self.node()
        node.create("srv_1")
        before = docker_start_time(node, "srv_1")
        began = time.monotonic()
        self.assertEqual(node.term(), 0)
        self.assertTrue(time.monotonic() - began < 10)
        self.assertEqual(docker_start_time(node, "srv_1"), before)

    def test_node_shutdown(self) -> None:
        """node.shutdown with stopServers: the game is stopped, the result is out, the process ends with 0."""
        node = self.node(self.redis())
        node.create("srv_1")
        command = node.send("node.shutdown", stopServers=True)
        assert node.process is not None
        self.assertEqual(node.process.wait(20), 0)
        self.assertEqual(node.result(command)["status"], "succeeded")
        self.assertEqual(node.events("server.status")[-1]["status"], "stopped")

    def test_second_daemon(self) -> None:
        """K31: a second daemon on the same state folder refuses to start, with status 75 and one line."""
        node = self.node()
        second = NodeProcess()
        self.addCleanup(second.close)
        second.config.write_text(node.config.read_text())
        second.launch()
        assert second.process is not None
        self.assertEqual(second.process.wait(20), 75)
        self.assertEqual(len(re.findall(r"^stellarstack: .*another daemon", second.log, re.M)), 1)


class DeathTests(_NodeCase):
    def test_kill_nine_while_lines_are_printed(self) -> None:
        """K07: after kill -9 the server was not touched, each line is there once or a gap tells, each event once."""
        node = self.node(self.redis())
        printing = "echo Done; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.02; done"
        node.create("srv_1", printing)
        before = docker_start_time(node, "srv_1")
        viewer = node.console("srv_1")
        viewer.frame("ready")
        viewer.until(b"line 30\r\n")
        start = int(viewer.frame("ready")["from"])
        seen = start + len(viewer.output)
        node.kill()
        viewer.close()
        time.sleep(2)
        node.start()
        self.assertEqual(docker_start_time(node, "srv_1"), before)
        later = node.console("srv_1", f"?since={seen}")
        self.addCleanup(later.close)
        later.frame("ready")
        last = int(re.findall(rb"line (\d+)\r\n", viewer.output)[-1])
        later.until(b"line %d\r\n" % (last + 200))
        lines = [int(n) for n in re.findall(rb"line (\d+)\r\n", viewer.output + later.output)]
        gaps = [frame for frame in later.frames if frame["type"] == "gap"]
        if not gaps:
            self.assertEqual(lines, list(range(lines[0], lines[0] + len(lines))))
        self.assertEqual(lines, sorted(set(lines)))
        self.assertTrue(len(gaps) <= 1)
        self.assert_unbroken(node.events())

    def test_kill_nine_in_a_stop(self) -> None:
        """K07: a stop broken off by kill -9 is finished after the restart and answered once."""
        node = self.node(self.redis())
        node.create("srv_1", "trap '' TERM; echo Done; while true; do sleep 0.1; done")
        command = node.send("server.stop", serverId="srv_1", timeout=3)
        node.until(lambda: node.events("server.status", status="stopping"), 10, "the stop to begin")
        node.kill()
        node.start()
        self.assertEqual(node.result(command)["status"], "succeeded")
        self.assertEqual(len(node.events("command.result", commandId=command)), 1)
        self.assert_unbroken(node.events())

    def kill_nine_in_a_start(self, loading: int, away: float) -> list[str]:
        """A game that loads so many seconds; the daemon is killed at once and away so long. What is told of it."""
        node = self.node(self.redis())
        begin = blueprint(node.image, f"sleep {loading}; echo Done; cat")
        command = node.send("server.create", serverId="srv_1", blueprint=begin)
        node.until(lambda: node.events("server.status", status="starting"), 10, "the start")
        node.until(lambda: runs(node, "srv_1"), 10, "its process")
        node.kill()
        time.sleep(away)
        node.start()
        self.assertEqual(node.result(command)["status"], "succeeded")
        return [event["status"] for event in node.events("server.status")]

    def test_ready_while_away(self) -> None:
        """K07: a server that became ready while no daemon was there is `running`, by its line in the engine's log."""
        told = self.kill_nine_in_a_start(loading=3, away=5.0)
        self.assertEqual((told[:3], told[-1]), (["installing", "stopped", "starting"], "running"))

    def test_ready_afterwards(self) -> None:
        """K07: a server that is still loading when the daemon is back is `starting` until its own line says ready."""
        told = self.kill_nine_in_a_start(loading=10, away=0.0)
        self.assertEqual(told, ["installing", "stopped", "starting", "starting", "running"])

    def test_redis_away(self) -> None:
        """K09, K11: what happens while Redis is away is told in order after it; commands of the stream run once."""
        redis = self.redis()
        node = self.node(redis)
        node.create("srv_1")
        viewer = node.console("srv_1")
        self.addCleanup(viewer.close)
        redis.kill()
        node.forget_redis()
        subprocess.run(["docker", "kill", f"{node.node_id}.srv_1"], capture_output=True, check=True)
        self.assertEqual(viewer.frame("status")["status"], "crashed")
        redis.start()
        command = node.send("server.start", serverId="srv_1")
        self.assertEqual(node.result(command)["status"], "succeeded")
        events = node.events()
        self.assert_unbroken(events)
        statuses = [event["status"] for event in events if event["type"] == "server.status"]
        self.assertEqual(statuses[-3:], ["crashed", "starting", "running"])
        self.assertEqual(len(node.events("command.result", commandId=command)), 1)

    def test_same_command_a_hundred_times(self) -> None:
        """K12: sent 100 times by both ways it runs once and is answered 100 times, 99 with `repeat`."""
        node = self.node(self.redis())
        for number in range(100):
            node.send("server.create", "cmd_same", queue=number % 2 == 0, serverId="srv_1",
                      blueprint=blueprint(node.image))  # fmt: skip
        node.until(lambda: len(node.events("command.result", commandId="cmd_same")) == 100, 30, "100 results")
        results = node.events("command.result", commandId="cmd_same")
        self.assertEqual(sum(1 for result in results if result.get("repeat")), 99)
        self.assertEqual({result["status"] for result in results}, {"succeeded"})
        self.assertEqual(len([e for e in node.events("server.status") if e["status"] == "starting"]), 1)
        self.assertEqual(len(node.events("command.ack", commandId="cmd_same")), 100)


class FloodTests(_NodeCase):
    def test_malformed_messages(self) -> None:
        """K13: 100 000 malformed messages cost hardly memory or disk, and the next good command is answered."""
        redis = self.redis()
        node = self.node(redis)
        node.run("node.info")
        memory = node.rss()
        channel = f"stellar:nodes:{node.node_id}:commands"
        junk = [
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b'{"id":7}',
            b'{"id":"x"}',
            b"[" * 1000,
            b'{"type":NaN}',
            b"null",
            b'"x"',
        ]
        for _ in range(100):
            replies = node.ask.pipeline([("PUBLISH", channel, junk[n % len(junk)]) for n in range(1000)])
            self.assertEqual(set(replies), {1})
        self.assertEqual(node.run("node.info")["nodeId"], node.node_id)
        self.assertTrue(node.rss() - memory < 20 * 2**20, f"{(node.rss() - memory) / 2**20:.1f} MB more")
        size = sum(path.stat().st_size for path in node.state.glob("daemon.sqlite*"))
        self.assertTrue(size < 16 * 2**20, f"the database has {size} bytes")
        node.until(lambda: node.events("node.alert", code="messages_rejected"), 90, "the alert")

    def test_secrets_stay_secret(self) -> None:
        """P07: no token, secret or environment value in the log at debug."""
        node = self.node()
        node.create("srv_1", config={"env": {"RCON_PASSWORD": "canary-env-9317"}})
        viewer = node.console("srv_1")
        viewer.frame("ready")
        viewer.type(b"canary-typed-9317\r")
        viewer.until(b"you said canary-typed-9317")
        viewer.close()
        node.term()
        secrets = [TOKEN, (node.state / "jwt_secret").read_text().strip(), "canary-env-9317", "canary-typed-9317"]
        self.assertEqual([one for one in secrets if one in node.log], [])

    def test_json_of_the_heartbeat(self) -> None:
        """The heartbeat goes out on its channel as PROTOCOL 5 has it."""
        node = self.node(extra="[heartbeat]\ninterval = 0.5\n")
        listener = Ask(("127.0.0.1", node.redis_port), (TOKEN,), timeout=10)
        self.addCleanup(listener.close)
        listener("SUBSCRIBE", f"stellar:nodes:{node.node_id}:heartbeat")
        beat = json.loads(listener.read()[2])
        self.assertEqual(beat["type"], "heartbeat")
        self.assertEqual((beat["status"], beat["state"], beat["nodeId"]), ("healthy", "ONLINE", node.node_id))
        self.assertIsInstance(beat["timestamp"], int)
        self.assertEqual(
            sorted(beat["metrics"]),
            ["activeContainers", "cpuUsage", "diskUsage", "memoryUsage", "networkRx", "networkTx"],
        )
