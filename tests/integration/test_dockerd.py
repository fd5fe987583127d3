"""The whole daemon on a Docker Engine that is restarted, killed, frozen or away: K01, K02, K03."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import GAME, NodeProcess, Viewer, blueprint
from tests.private_dockerd import PrivateDockerd, missing_for_dockerd
from tests.redis_server import Ask, RedisServer

PATIENCE = 10.0  # seconds of `[docker] request_timeout` where the engine hangs
AFTER_RETURN = 10.0  # seconds in which the state is right again (K01)
SAME_PROCESS = "{{.Id}} {{.State.StartedAt}} {{.State.Pid}}"
PRINTING = "echo Done; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.05; done"
BACK = {"restart": True, "limit": 3, "window": 600}
# Ends at SIGTERM, as well-behaved games do; a shell that is process 1 would not.
POLITE = "trap 'exit 0' TERM\n" + GAME.replace("while read -r line; do", "while true; do read -r line || continue")


class EngineCase(SynchronousTestCase):
    """A daemon on an engine of its own."""

    skip = missing_for_dockerd()

    def dockerd(self, *, live_restore: bool) -> PrivateDockerd:
        dockerd = PrivateDockerd(live_restore=live_restore)
        self.addCleanup(dockerd.close)
        dockerd.start()
        dockerd.load_busybox()
        return dockerd

    def node(self, dockerd: PrivateDockerd, extra: str = "") -> NodeProcess:
        redis = RedisServer("appendonly yes")
        self.addCleanup(redis.stop)
        node = NodeProcess(redis.start(), extra, docker=dockerd.socket)
        self.addCleanup(node.close)
        return node

    def process_of(self, node: NodeProcess, dockerd: PrivateDockerd, server_id: str) -> str:
        """Which container, begun when, as which process; the same text means that nobody touched it."""
        return dockerd.docker("inspect", "-f", SAME_PROCESS, f"{node.node_id}.{server_id}")

    def running(self, dockerd: PrivateDockerd) -> set[str]:
        """The servers whose containers run."""
        form = '{{.Label "stellarstack.server"}}'
        return set(dockerd.docker("ps", "--filter", "label=stellarstack.node", "--format", form).split())

    def rows(self, node: NodeProcess) -> dict[str, dict[str, Any]]:
        """`server.list` by server."""
        return {row["serverId"]: row for row in node.run("server.list")["servers"]}

    def until_docker(self, node: NodeProcess, ok: bool, timeout: float = AFTER_RETURN) -> None:
        """Waits until the daemon has, or misses, its engine."""
        node.until(lambda: docker_ok(node) is ok, timeout, "docker to be " + ("there" if ok else "away"))

    def viewer(self, node: NodeProcess, server_id: str, query: str = "") -> Viewer:
        viewer = node.console(server_id, query)
        self.addCleanup(viewer.close)
        viewer.frame("ready")
        return viewer

    def assert_once(self, node: NodeProcess) -> None:
        """`seq` has no hole; every command has one result, and each copy of it (after a kill -9) a repeated one."""
        events = node.events()
        self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
        acks = Counter(event["commandId"] for event in events if event["type"] == "command.ack")
        results = [event for event in events if event["type"] == "command.result"]
        self.assertEqual(Counter(event["commandId"] for event in results), acks)
        first = Counter(event["commandId"] for event in results if not event.get("repeat"))
        self.assertEqual(set(first.values()), {1})
        self.assertEqual(set(first), set(acks))


def docker_ok(node: NodeProcess) -> bool | None:
    """What /health says of the engine; None where nobody answers."""
    check = node.health().get("checks", {}).get("docker")
    return None if check is None else check == "ok"


def lines_of(output: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"line (\d+)\r\n", output)]


def statuses(node: NodeProcess, server_id: str) -> list[tuple[str, str | None]]:
    """What was told of a server, in order."""
    return [(event["status"], event.get("reason")) for event in node.events("server.status", serverId=server_id)]


class LiveRestoreTests(EngineCase):
    """With `--live-restore` the games do not notice."""

    def restarted(self, *, kill: bool) -> None:
        dockerd = self.dockerd(live_restore=True)
        node = self.node(dockerd).start()
        node.create("quiet")
        node.create("talks", PRINTING)
        before = [self.process_of(node, dockerd, one) for one in ("quiet", "talks")]
        told = [statuses(node, one) for one in ("quiet", "talks")]
        viewer, typist = self.viewer(node, "talks"), self.viewer(node, "quiet")
        viewer.until(b"line 20\r\n")
        if kill:
            dockerd.kill()
        else:
            dockerd.stop()
        self.until_docker(node, False)
        dockerd.start()
        self.until_docker(node, True)
        self.assertEqual([row["status"] for row in self.rows(node).values()], ["running", "running"])
        last = lines_of(viewer.output)[-1]
        viewer.until(b"line %d\r\n" % (last + 300), timeout=40)
        lines, gaps = lines_of(viewer.output), [one for one in viewer.frames if one["type"] == "gap"]
        self.assertEqual(lines, sorted(set(lines)), "a line came twice, or late")
        self.assertTrue(len(gaps) <= 1, gaps)
        if not gaps:
            self.assertEqual(lines, list(range(lines[0], lines[-1] + 1)))
        typist.type(b"hello\r")
        typist.until(b"you said hello")
        node.run("server.command", serverId="quiet", command="again")
        typist.until(b"you said again")
        self.assertEqual([self.process_of(node, dockerd, one) for one in ("quiet", "talks")], before)
        self.assertEqual([statuses(node, one) for one in ("quiet", "talks")], told)
        self.assertEqual(node.run("server.stop", serverId="quiet")["exitCode"], 0)
        self.assertEqual(node.run("server.kill", serverId="talks")["exitCode"], 137)
        self.assert_once(node)

    def test_restarted(self) -> None:
        """K01: a restart of dockerd touches no server; state, console and commands are right again within 10 s."""
        self.restarted(kill=False)

    def test_killed(self) -> None:
        """K01: the same where dockerd dies of SIGKILL."""
        self.restarted(kill=True)

    def test_ends_while_away(self) -> None:
        """K01: what ended while dockerd was away is `crashed` within 10 s of its return, and back by its policy."""
        dockerd = self.dockerd(live_restore=True)
        node = self.node(dockerd).start()
        node.create("stays")
        node.create("returns", crash=BACK)
        pids = {one: int(self.process_of(node, dockerd, one).split()[2]) for one in ("stays", "returns")}
        dockerd.stop()
        self.until_docker(node, False)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        dockerd.start()
        node.until(lambda: statuses(node, "stays")[-1][0] == "crashed", AFTER_RETURN, "the end to be told")
        node.until(lambda: [one for one, _ in statuses(node, "returns")][-3:] == ["crashed", "starting", "running"],
                   AFTER_RETURN + 5, "the restart")  # fmt: skip
        self.assertEqual(self.running(dockerd), {"returns"})
        self.assertEqual(self.rows(node)["stays"]["exitCode"], 137)
        self.assert_once(node)


class TakenDownTests(EngineCase):
    """Without `--live-restore` dockerd takes the games along."""

    def restarted(self, *, kill: bool) -> None:
        dockerd = self.dockerd(live_restore=False)
        node = self.node(dockerd).start()
        node.create("returns", POLITE, crash=BACK)
        node.create("stays", POLITE)
        node.create("rests", POLITE)
        node.run("server.stop", serverId="rests")
        rested = statuses(node, "rests")
        if kill:
            dockerd.kill()
        else:
            dockerd.stop()
        self.until_docker(node, False)
        dockerd.start()
        node.until(
            lambda: statuses(node, "stays")[-1] == ("crashed", "docker_restart"), AFTER_RETURN, "the end of stays"
        )
        node.until(lambda: [one for one, _ in statuses(node, "returns")][-3:] == ["crashed", "starting", "running"],
                   AFTER_RETURN + 5, "the restart")  # fmt: skip
        self.assertEqual(statuses(node, "returns")[-3], ("crashed", "docker_restart"))
        self.assertEqual(statuses(node, "rests"), rested)
        self.assertEqual(self.running(dockerd), {"returns"})
        viewer = self.viewer(node, "returns")
        viewer.type(b"hello\r")
        viewer.until(b"you said hello")
        self.assertEqual(node.run("server.start", serverId="stays")["status"], "running")
        self.assert_once(node)

    def ended(self, node: NodeProcess, server_id: str) -> bool:
        return statuses(node, server_id)[-1][0] != "running"

    def test_restarted(self) -> None:
        """K01: after a restart of dockerd servers are `crashed`, `docker_restart`, and back as their policy says."""
        self.restarted(kill=False)

    def test_killed(self) -> None:
        """K01: the same where dockerd dies of SIGKILL: at its return it ends what still runs."""
        self.restarted(kill=True)

    def test_one_ends_long_before_the_other(self) -> None:
        """K01: dockerd waits for a server that is slow to end; one that ended at once is no `exit` meanwhile."""
        dockerd = self.dockerd(live_restore=False)
        node = self.node(dockerd).start()
        node.create("quick", POLITE)
        node.create("slow", POLITE.replace("exit 0", "sleep 6; exit 0", 1))
        dockerd.stop()
        self.until_docker(node, False)
        dockerd.start()
        for one in ("quick", "slow"):
            node.until(partial(self.ended, node, one), AFTER_RETURN, f"the end of {one}")
            self.assertEqual(statuses(node, one)[-1], ("crashed", "docker_restart"), one)
        self.assert_once(node)


class AwayTests(EngineCase):
    def test_away_at_boot(self) -> None:
        """An unreachable Docker is no start error: commands fail with the reason, and with its return all is true."""
        dockerd = self.dockerd(live_restore=True)
        node = self.node(dockerd).start()
        node.create("runs")
        node.create("ends")
        node.create("rests")
        node.run("server.stop", serverId="rests")
        pid = int(self.process_of(node, dockerd, "ends").split()[2])
        before = self.process_of(node, dockerd, "runs")
        node.term()
        dockerd.stop()
        os.kill(pid, signal.SIGKILL)
        node.launch()
        node.until(lambda: node.health().get("state"), 20, "the node to answer")
        self.assertFalse(docker_ok(node))
        began = time.monotonic()
        failed = node.result(node.send("server.start", serverId="rests"), timeout=40)
        self.assertEqual((failed["status"], failed["error"]["code"]), ("rejected", "docker_unavailable"))
        self.assertTrue(time.monotonic() - began < 35)
        self.assertEqual(node.run("node.info")["nodeId"], node.node_id)
        dockerd.start()
        self.until_docker(node, True)
        self.assertEqual(node.health()["state"], "ONLINE")
        rows = self.rows(node)
        self.assertEqual([rows[one]["status"] for one in ("runs", "ends", "rests")], ["running", "crashed", "stopped"])
        self.assertEqual(self.process_of(node, dockerd, "runs"), before)
        viewer = self.viewer(node, "runs")
        viewer.type(b"hello\r")
        viewer.until(b"you said hello")
        self.assertEqual(node.run("server.start", serverId="rests")["status"], "running")
        self.assert_once(node)

    def test_removed_behind_us(self) -> None:
        """K03: after `docker rm -f` the server is told to have ended once, and its next start makes a new container."""
        dockerd = self.dockerd(live_restore=True)
        node = self.node(dockerd).start()
        made = node.create("srv_1")
        node.create("other")
        told = len(statuses(node, "srv_1"))
        dockerd.docker("rm", "-f", f"{node.node_id}.srv_1")
        node.until(lambda: len(statuses(node, "srv_1")) > told, AFTER_RETURN, "the end to be told")
        self.assertEqual(self.rows(node)["srv_1"]["status"], "crashed")
        node.run("server.start", serverId="srv_1")
        self.assertEqual([one for one, _ in statuses(node, "srv_1")[told:]], ["crashed", "starting", "running"])
        self.assertNotEqual(self.rows(node)["srv_1"]["containerId"], made["containerId"])
        node.run("server.stop", serverId="srv_1")
        dockerd.docker("rm", "-f", f"{node.node_id}.srv_1")
        dockerd.docker("network", "rm", f"{node.node_id}.srv_1")
        self.assertEqual(node.run("server.start", serverId="srv_1")["status"], "running")
        self.assertEqual(self.running(dockerd), {"srv_1", "other"})
        self.assert_once(node)


class FrozenTests(EngineCase):
    def test_frozen(self) -> None:
        """K02: while dockerd hangs every command ends, all else goes on; after it the state is true again."""
        dockerd = self.dockerd(live_restore=True)
        node = self.node(dockerd, extra="[heartbeat]\ninterval = 1\n")
        text = node.config.read_text()
        node.config.write_text(text.replace("[docker]\n", f"[docker]\nrequest_timeout = {PATIENCE:g}\n"))
        node.start()
        for one in ("plays", "stops", "dies", "rests"):
            node.create(one)
        node.run("server.stop", serverId="rests")
        viewer = self.viewer(node, "plays")
        beats = Ask(("127.0.0.1", node.redis_port), timeout=30)
        self.addCleanup(beats.close)
        beats("SUBSCRIBE", f"stellar:nodes:{node.node_id}:heartbeat")
        dockerd.freeze()
        self.addCleanup(dockerd.thaw)
        began = time.monotonic()
        sent = {
            "start": node.send("server.start", serverId="rests"),
            "stop": node.send("server.stop", serverId="stops", timeout=5),
            "kill": node.send("server.kill", serverId="dies"),
            "create": node.send("server.create", serverId="comes", blueprint=blueprint(node.image)),
            "delete": node.send("server.delete", serverId="nobody"),
        }
        viewer.session.send({"type": "ping"})
        viewer.frame("pong", timeout=5)
        info = time.monotonic()
        self.assertEqual(node.run("node.info")["nodeId"], node.node_id)
        self.assertTrue(time.monotonic() - info < 5)
        results = {name: node.result(one, timeout=70) for name, one in sent.items()}
        for name, code in (
            ("start", "timeout"),
            ("kill", "timeout"),
            ("create", "timeout"),
            ("delete", "server_not_found"),
        ):
            self.assertEqual(results[name]["error"]["code"], code, name)
            self.assertTrue(results[name]["durationMs"] < 2e3 * PATIENCE, results[name])
        self.assertTrue(results["stop"]["durationMs"] < 4e3 * PATIENCE, results["stop"])
        self.until_docker(node, False, timeout=50)
        while json.loads(beats.read()[2])["status"] != "degraded":
            self.assertTrue(time.monotonic() - began < 90, "no degraded heartbeat")
        viewer.session.send({"type": "history", "limit": 100})
        self.assertIn(b"Done", base64.b64decode(viewer.frame("history", timeout=5)["data"]))
        viewer.type(b"hello\r")
        dockerd.thaw()
        self.until_docker(node, True, timeout=40)
        viewer.until(b"you said hello")
        node.until(lambda: self.truth(node, dockerd), AFTER_RETURN, "the state to be true")
        self.assertIn("plays", self.running(dockerd))
        for one in ("rests", "stops", "dies"):
            self.assertEqual(node.run("server.start", serverId=one)["status"], "running")
        node.run("server.create", serverId="comes_2", blueprint=blueprint(node.image))
        self.assertEqual(self.running(dockerd), set(self.rows(node)))
        self.assert_once(node)

    def truth(self, node: NodeProcess, dockerd: PrivateDockerd) -> bool:
        """Whether what the daemon says runs is what runs."""
        alive = {one for one, row in self.rows(node).items() if row["status"] in ("starting", "running", "stopping")}
        return alive == self.running(dockerd)


class RandomRunTests(EngineCase):
    """A seeded walk of commands, crashes and restarts of dockerd and daemon against the real engine."""

    SEED, STEPS, SECONDS = 20261123, 80, 60.0
    SERVERS = ("one", "two", "three", "four")

    def test_random_run(self) -> None:
        """K04: after a random walk each state is the engine's, every command has one result, nothing is left over."""
        self.dice = random.Random(self.SEED)
        self.dockerd_ = self.dockerd(live_restore=True)
        self.node_ = self.node(self.dockerd_).start()
        self.sent: list[str] = []
        steps: Sequence[tuple[int, Any]] = (
            (50, self.command), (12, self.crash), (8, self.remove), (2, self.restart_engine), (2, self.restart_node),
            (14, lambda: time.sleep(0.3)),
        )  # fmt: skip
        deadline = time.monotonic() + self.SECONDS
        taken = 0
        while taken < self.STEPS and time.monotonic() < deadline:
            self.dice.choices([step for _, step in steps], [weight for weight, _ in steps])[0]()
            taken += 1
        self.assertTrue(taken >= self.STEPS // 2, f"only {taken} steps in {self.SECONDS:g} s")
        for command in self.sent:
            self.node_.result(command, timeout=90)
        self.node_.until(self.at_rest, AFTER_RETURN + 10, "the state to be the engine's")
        self.assert_once(self.node_)
        for server_id in self.rows(self.node_):
            self.node_.run("server.delete", serverId=server_id)
        self.assertEqual(self.names("ps", "-aq"), [])
        self.assertEqual(self.names("network", "ls", "-q"), [])

    def names(self, *listing: str) -> list[str]:
        return self.dockerd_.docker(*listing, "--filter", "label=stellarstack.node").split()

    def at_rest(self) -> bool:
        rows = self.rows(self.node_)
        if any(row["status"] in ("starting", "stopping", "installing") for row in rows.values()):
            return False
        return {one for one, row in rows.items() if row["status"] == "running"} == self.running(self.dockerd_)

    def command(self) -> None:
        server_id = self.dice.choice(self.SERVERS)
        kind = self.dice.choice(["create", "create", "start", "start", "stop", "restart", "kill", "delete", "list"])
        payload: dict[str, Any] = {"serverId": server_id} if kind != "list" else {}
        if kind == "create":
            payload["blueprint"] = blueprint(self.node_.image, crash=BACK)
        if kind in ("stop", "restart"):
            payload["timeout"] = self.dice.choice([0, 2])
        self.sent.append(self.node_.send(f"server.{kind}", queue=True, **payload))

    def crash(self) -> None:
        self.dockerd_.docker("kill", f"{self.node_.node_id}.{self.dice.choice(self.SERVERS)}", check=False)

    def remove(self) -> None:
        self.dockerd_.docker("rm", "-f", f"{self.node_.node_id}.{self.dice.choice(self.SERVERS)}", check=False)

    def restart_engine(self) -> None:
        """Not by SIGKILL: in the middle of a network's creation that leaves dockerd 20.10 unable to start again."""
        self.dockerd_.stop()
        time.sleep(self.dice.random())
        self.dockerd_.start()

    def restart_node(self) -> None:
        if self.dice.random() < 0.5:
            self.node_.kill()
        else:
            self.node_.term()
        self.node_.launch()
