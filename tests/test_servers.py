"""A game server's life as the panel sees it, over a fake engine that behaves like Docker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stellarstack.core.messages import Json
from tests.fake_container import Program
from tests.household import GAME, HouseholdCase, done

CONTAINER = "node_test.srv_1"


class _Case(HouseholdCase):
    def running(self, **more: Any) -> None:
        """A server that runs."""
        command = self.world.create(**more)
        self.world.settle(1)
        self.assertEqual(self.world.result(command)["status"], "succeeded")

    def statuses(self, server_id: str = "srv_1") -> list[str]:
        return [str(event["status"]) for event in self.world.store.events("server.status", serverId=server_id)]

    def error(self, command: str) -> tuple[str, str]:
        """Status and code of a command that did not succeed."""
        result = self.world.result(command)
        error = result["error"]
        assert isinstance(error, dict)
        return str(result["status"]), str(error["code"])

    def answer(self, command: str) -> dict[str, Json]:
        result = self.world.result(command)
        self.assertEqual(result["status"], "succeeded", result)
        answer = result["result"]
        assert isinstance(answer, dict)
        return answer

    def containers(self) -> Sequence[str]:
        return sorted(container.name for container in self.world.engine.all())


class CreateTests(_Case):
    def test_runs_when_ready(self) -> None:
        """A created server is started, and succeeds once its ready line was printed."""
        answer = self.answer_of_create()
        self.assertEqual(answer["status"], "running")
        self.assertEqual(self.statuses(), ["installing", "stopped", "starting", "running"])

    def answer_of_create(self, **more: Any) -> dict[str, Json]:
        command = self.world.create(**more)
        self.world.settle(1)
        return self.answer(command)

    def test_ports_of_the_blueprint(self) -> None:
        """A create that names no ports publishes its blueprint's; where another server has them, it is refused."""
        listed: Any = {"ports": [{"container": 21217, "protocol": "tcp"}]}
        answer = self.answer_of_create(blueprint=listed)
        self.assertEqual(answer["ports"], [{"host": 21217, "container": 21217, "protocol": "tcp", "ip": ""}])
        self.assertIn("21217/tcp", self.world.engine.get(CONTAINER).host["PortBindings"])
        second = self.world.create("srv_2", blueprint=listed)
        self.world.settle(1)
        self.assertEqual(self.error(second), ("rejected", "port_in_use"))
        self.assertIn("srv_1", str(self.world.result(second)["error"]))
        third = self.world.create("srv_3", blueprint=listed, config={"ports": []})
        self.world.settle(1)
        self.assertEqual(self.answer(third)["ports"], [])

    def test_ports_are_told(self) -> None:
        """The result names the ports as they are published, the first being the primary."""
        answer = self.answer_of_create(config={"ports": [{"host": 20001, "container": 25565, "protocol": "udp"}]})
        self.assertEqual(answer["ports"], [{"host": 20001, "container": 25565, "protocol": "udp", "ip": ""}])

    def test_not_started_when_not_wanted(self) -> None:
        """With `start` false the server is installed and stays stopped."""
        self.assertEqual(self.answer_of_create(start=False)["status"], "stopped")
        self.assertEqual(self.containers(), [])

    def test_twice(self) -> None:
        """A second server of the same id is refused before anything is done."""
        self.running()
        second = self.world.create()
        self.world.settle(1)
        self.assertEqual(self.error(second), ("rejected", "server_exists"))

    def test_port_of_another_server(self) -> None:
        """A port that another server of this node holds is refused, naming that server."""
        self.running(config={"ports": [20002]})
        command = self.world.create("srv_2", config={"ports": [{"host": 20002, "container": 1, "protocol": "udp"}]})
        self.world.settle(1)
        self.assertEqual(self.error(command), ("rejected", "port_in_use"))
        self.assertIn("srv_1", str(self.world.result(command)["error"]))

    def test_unknown_image(self) -> None:
        """An image that cannot be had fails the create and leaves nothing behind."""
        command = self.world.create(blueprint={"docker": {"image": "test/nothing:1"}})
        self.world.settle(1)
        self.assertEqual(self.error(command), ("failed", "image_pull_failed"))
        self.assertIsNone(self.world.status())
        self.assertEqual(self.world.store.documents, {})
        self.assertEqual([n for n in done(self.world.engine.networks({})) if "srv_1" in n], [])

    def test_bad_config(self) -> None:
        """A config that cannot be is refused, naming the key."""
        command = self.world.create(config={"memory": "much"})
        self.world.settle(1)
        self.assertEqual(self.error(command), ("rejected", "invalid_payload"))

    def test_dies_at_start(self) -> None:
        """A server that dies while starting stays, `crashed`, and the create says so."""
        self.world.engine.add_image("test/bad:1", Program(output="oops\n", exit_after=0.1, exit_code=3))
        answer = self.answer_of_create(blueprint={"docker": {"image": "test/bad:1"}})
        self.assertEqual(answer["status"], "crashed")
        self.assertEqual(answer["startError"]["code"], "invalid_state")  # type: ignore[index,call-overload]
        self.assertEqual(self.statuses()[-1], "crashed")

    def test_user_of_its_own(self) -> None:
        """With [docker] uid_per_server each server has a user of its own, kept over restarts of the daemon."""
        self.world.docker = replace(self.world.docker, uid_per_server=True)
        self.world.restart()
        self.running()
        self.running(server_id="srv_2")
        self.world.restart()
        self.world.settle(1)
        users = [self.world.household.get(name).user for name in ("srv_1", "srv_2")]
        self.assertEqual(users, [(989, 989), (990, 990)])
        self.assertEqual(self.world.engine.get("node_test.srv_2").body["User"], "990:990")

    def test_fenced_network(self) -> None:
        """Each server has a bridge of its own out of the node's pool."""
        self.running()
        self.running(server_id="srv_2")
        networks = done(self.world.engine.networks({"stellarstack.node": "node_test"}))
        self.assertEqual(sorted(networks), ["node_test.srv_1", "node_test.srv_2"])
        self.assertEqual(len({subnet for subnets in networks.values() for subnet in subnets}), 2)


class PowerTests(_Case):
    def test_stop_by_its_own_word(self) -> None:
        """Stop types the blueprint's stop command and tells the exit code."""
        self.running()
        command = self.world.send("server.stop", serverId="srv_1")
        self.world.settle(1)
        self.assertEqual(self.answer(command), {"status": "stopped", "exitCode": 0, "forced": False})
        self.assertEqual(self.statuses()[-2:], ["stopping", "stopped"])

    def test_stop_of_a_stopped_one(self) -> None:
        """Stop of a stopped server succeeds with `already`."""
        command = self.world.create(start=False)
        again = self.world.send("server.stop", serverId="srv_1")
        self.world.settle(1)
        self.answer(command)
        self.assertIs(self.answer(again)["already"], True)

    def test_start_of_a_running_one(self) -> None:
        """Start of a running server succeeds with `already`."""
        self.running()
        command = self.world.send("server.start", serverId="srv_1")
        self.world.settle(1)
        self.assertEqual(self.answer(command), {"status": "running", "already": True})

    def test_stop_escalates(self) -> None:
        """A server deaf to its stop command gets SIGTERM at the timeout and SIGKILL five seconds later."""
        self.world.engine.add_image("test/deaf:1", Program(output="Done\n", signals={}))
        self.running(blueprint={"docker": {"image": "test/deaf:1", "stop_command": "stop"}})
        command = self.world.send("server.stop", serverId="srv_1", timeout=10)
        self.world.settle(16)
        self.assertEqual(self.answer(command), {"status": "stopped", "exitCode": 137, "forced": True})

    def test_timeout_zero_kills(self) -> None:
        """Stop with timeout 0 kills at once."""
        self.running()
        command = self.world.send("server.stop", serverId="srv_1", timeout=0)
        self.world.settle(1)
        self.assertEqual(self.answer(command)["exitCode"], 137)
        self.assertIs(self.answer(command)["forced"], True)

    def test_restart(self) -> None:
        """Restart stops and starts; of a stopped server it starts."""
        self.running()
        first = done(self.world.engine.inspect(CONTAINER)).id
        command = self.world.send("server.restart", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.answer(command), {"status": "running"})
        self.assertNotEqual(done(self.world.engine.inspect(CONTAINER)).id, first)

    def test_kill_overtakes_a_start(self) -> None:
        """K05: server.kill ends a start under way and takes away what waits; each command has its one result."""
        self.world.engine.add_image("test/slow:1", Program(output="loading\n"))
        create = self.world.create(blueprint={"docker": {"image": "test/slow:1"}}, start=False)
        self.world.settle(1)
        self.answer(create)
        start = self.world.send("server.start", serverId="srv_1")
        waits = self.world.send("server.restart", serverId="srv_1")
        self.world.settle(2)
        kill = self.world.send("server.kill", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.answer(kill)["status"], "stopped")
        self.assertEqual(self.error(start), ("cancelled", "cancelled"))
        self.assertEqual(self.error(waits), ("cancelled", "cancelled"))
        self.assertEqual(self.world.status(), "stopped")

    def test_ready_overdue(self) -> None:
        """A server that never says its ready line goes on, is told, and becomes running by a late one."""
        self.world.engine.add_image("test/late:1", Program(output="loading\n", replies={"go": "Done\n"}))
        command = self.world.create(blueprint={"docker": {"image": "test/late:1"}})
        self.world.settle(61, step=1)
        answer = self.answer(command)
        self.assertEqual((answer["status"], answer["startError"]["code"]), ("starting", "timeout"))  # type: ignore[index,call-overload]
        self.world.send("server.command", serverId="srv_1", command="go")
        self.world.settle(1)
        self.assertEqual(self.world.status(), "running")

    def test_line_to_a_stopped_one(self) -> None:
        """server.command to a server without a process is refused."""
        self.world.create(start=False)
        command = self.world.send("server.command", serverId="srv_1", command="hi")
        self.world.settle(1)
        self.assertEqual(self.error(command), ("rejected", "invalid_state"))

    def test_unknown_server(self) -> None:
        """A command for a server that is not here is rejected after its ack."""
        command = self.world.send("server.start", serverId="srv_9")
        self.world.settle(1)
        self.assertEqual(self.error(command), ("rejected", "server_not_found"))
        self.assertEqual(len(self.world.store.events("command.ack", commandId=command)), 1)


class EndTests(_Case):
    def test_crash_is_noticed(self) -> None:
        """A process that ends with an error is `crashed` at once, with its exit code."""
        self.running()
        self.world.engine.crash(CONTAINER, 7)
        self.world.settle(1)
        event = self.world.store.events("server.status", status="crashed")[-1]
        self.assertEqual((event["exitCode"], event["reason"]), (7, "exit"))

    def test_oom(self) -> None:
        """K20: an out-of-memory kill is told as oom."""
        self.running()
        self.world.engine.oom(CONTAINER)
        self.world.settle(1)
        self.assertEqual(self.world.store.events("server.status")[-1]["reason"], "oom")

    def test_own_end(self) -> None:
        """K21: a game that ends by itself with 0 is stopped, not crashed, and stays down."""
        self.running(blueprint={"crash": {"restart": True}})
        self.world.engine.crash(CONTAINER, 0)
        self.world.settle(30)
        self.assertEqual(self.statuses()[-1], "stopped")

    def test_crash_policy(self) -> None:
        """K20, K21: a crashed server comes back as its policy says, and not for ever."""
        self.running(blueprint={"crash": {"restart": True, "limit": 2, "window": 600}})
        for _ in range(3):
            self.assertEqual(self.world.status(), "running")
            self.world.engine.crash(CONTAINER, 1)
            self.world.settle(70)
        self.assertEqual(self.world.status(), "crashed")
        self.assertEqual(len(self.world.store.events("node.alert", code="server_crashed")), 3)

    def test_a_stopped_one_is_not_brought_back(self) -> None:
        """K21: a stop between crash and restart counts."""
        self.running(blueprint={"crash": {"restart": True}})
        self.world.engine.crash(CONTAINER, 1)
        self.world.send("server.stop", serverId="srv_1")
        self.world.settle(70)
        self.assertEqual(self.world.status(), "crashed")

    def test_vanished(self) -> None:
        """K03: a container removed behind our back is told once, and the next start makes a new one."""
        self.running()
        self.world.engine.vanish(CONTAINER)
        self.world.settle(2)
        self.assertEqual(self.statuses().count("crashed"), 1)
        command = self.world.send("server.start", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.answer(command), {"status": "running"})


class DiskTests(_Case):
    def test_limit_is_set(self) -> None:
        """The server's share of the disk is fenced before its files are written to, and let go with it."""
        self.running(config={"disk": 50})
        self.assertEqual(self.world.fence.limits, {"srv_1": 50 * 2**20})
        self.world.send("server.delete", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.world.fence.limits, {})

    def test_over_the_limit(self) -> None:
        """A server over its share is told of, with the overshoot, and stopped by its own stop command."""
        self.running(config={"disk": 50})
        self.world.keeper.disk_over("srv_1", 60 * 2**20, 50 * 2**20)
        self.world.settle(2)
        (alert,) = self.world.store.events("node.alert", code="disk_limit")
        self.assertEqual((alert["serverId"], alert["overshoot"]), ("srv_1", 10 * 2**20))
        self.assertEqual(self.world.status(), "stopped")
        self.assertFalse(self.world.household.get("srv_1").record.wanted)

    def test_over_the_limit_while_stopped(self) -> None:
        """A stopped server over its share is told of and left alone; one that is gone is nobody's business."""
        self.world.create(start=False)
        self.world.keeper.disk_over("srv_1", 2, 1)
        self.world.keeper.disk_over("srv_9", 2, 1)
        self.world.settle(2)
        self.assertEqual(len(self.world.store.events("node.alert", code="disk_limit")), 1)
        self.assertEqual(self.statuses()[-1], "stopped")


class UpdateTests(_Case):
    def test_what_can_change_at_once(self) -> None:
        """server.update changes the limits of a running container and the disk's, and says what waits for a start."""
        self.running(config={"ports": [21010]})
        config = {"memory": 128, "disk": 99, "ports": [21011]}
        command = self.world.send("server.update", serverId="srv_1", config=config)
        self.world.settle(1)
        answer = self.answer(command)
        self.assertEqual((answer["applied"], answer["pending"]), (["memory", "disk"], ["ports"]))
        self.assertEqual(self.world.fence.limits["srv_1"], 99 * 2**20)
        self.assertEqual([port.host for port in self.world.household.get("srv_1").spec.ports], [21011])

    def test_port_of_another_server(self) -> None:
        """A new port that another server holds is refused, and nothing is changed."""
        self.running(config={"ports": [21010]})
        self.running(server_id="srv_2")
        command = self.world.send("server.update", serverId="srv_2", config={"ports": [21010], "memory": 99})
        self.world.settle(1)
        self.assertEqual(self.error(command), ("rejected", "port_in_use"))
        self.assertEqual(self.world.household.get("srv_2").spec.memory_mb, 64)


class DeleteTests(_Case):
    def test_leaves_nothing(self) -> None:
        """Delete ends the process and removes container, network, folder and record."""
        self.running()
        folder = self.world.root / "servers" / "srv_1"
        self.assertTrue(folder.is_dir())
        command = self.world.send("server.delete", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.answer(command), {})
        self.assertEqual((self.containers(), self.world.store.documents), ([], {}))
        self.assertFalse(folder.exists())
        self.assertIsNone(self.world.status())

    def test_a_tree_deeper_than_any_walk_in_python(self) -> None:
        """K28: a tenant's folders inside folders, thousands deep, do not keep a server from being deleted."""
        self.running()
        folder = self.world.root.absolute() / "servers" / "srv_1"
        here = os.open(folder, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=here)
            deeper = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        os.close(here)
        command = self.world.send("server.delete", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.answer(command), {})
        self.assertFalse(folder.exists())

    def test_keeps_files(self) -> None:
        """With deleteFiles false the folder stays."""
        self.running()
        self.world.send("server.delete", serverId="srv_1", deleteFiles=False)
        self.world.settle(2)
        self.assertTrue((self.world.root / "servers" / "srv_1").is_dir())

    def test_during_install(self) -> None:
        """K06: a delete in the middle of an install ends it; both are answered and nothing is left."""
        self.world.engine.add_image("test/installer:1", Program(output="fetching\n"))
        create = self.world.create(
            blueprint={"install": {"image": "test/installer:1", "entrypoint": "sh", "script": "sleep 1000"}}
        )
        self.world.settle(2)
        self.assertEqual(self.world.status(), "installing")
        delete = self.world.send("server.delete", serverId="srv_1")
        self.world.settle(2)
        self.assertEqual(self.error(create), ("cancelled", "cancelled"))
        self.assertIn(self.world.result(delete)["status"], ("succeeded", "rejected"))
        self.assertEqual((self.containers(), self.world.store.documents), ([], {}))


class InstallTests(_Case):
    def install(self, program: Program) -> str:
        self.world.engine.add_image("test/installer:1", program)
        blueprint = {"install": {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 60}}
        return self.world.create(blueprint=blueprint)

    def test_exit_code_is_believed(self) -> None:
        """An install that does not end with 0 has failed, says its last words, and leaves nothing behind."""
        command = self.install(Program(output="no such version\n", exit_after=1.0, exit_code=3))
        self.world.settle(3)
        self.assertEqual(self.error(command), ("failed", "install_failed"))
        self.assertIn("no such version", str(self.world.result(command)["error"]))
        self.assertEqual((self.containers(), self.world.store.documents), ([], {}))

    def test_then_start(self) -> None:
        """After an install that ended well the server is started."""
        command = self.install(Program(output="fetched\n", exit_after=1.0))
        self.world.settle(3)
        self.assertEqual(self.answer(command)["status"], "running")

    def test_timeout(self) -> None:
        """An install that does not end in its time is ended."""
        command = self.install(Program(output="..."))
        self.world.settle(70, step=1)
        self.assertEqual(self.error(command), ("failed", "timeout"))
        self.assertEqual(self.containers(), [])


class RestartOfTheDaemonTests(_Case):
    def test_running_server_is_left_alone(self) -> None:
        """After a kill -9 a running server is found again, untouched, and its console joined."""
        self.running()
        before = done(self.world.engine.inspect(CONTAINER))
        self.world.restart()
        self.world.settle(1)
        self.assertEqual(done(self.world.engine.inspect(CONTAINER)), before)
        self.assertEqual(self.world.status(), "running")
        self.assertEqual(self.world.consoles.open_ones["srv_1"].rejoined, [before.id])

    def test_each_server_is_told_once(self) -> None:
        """At each start of the daemon every server's state is sent once."""
        self.running()
        sent = len(self.statuses())
        self.world.restart()
        self.world.settle(1)
        self.assertEqual(self.statuses()[sent:], ["running"])

    def test_ended_meanwhile(self) -> None:
        """A server that ended while the daemon was away is told so."""
        self.running()
        self.world.kill()
        self.world.engine.crash(CONTAINER, 9)
        self.world.build()
        self.world.start()
        self.world.settle(1)
        self.assertEqual(self.world.status(), "crashed")
        self.assertEqual(self.world.store.events("server.status")[-1]["exitCode"], 9)
        ended = done(self.world.engine.inspect(CONTAINER))
        self.assertEqual(self.world.consoles.open_ones["srv_1"].recalled, [ended.id])

    def test_start_goes_on(self) -> None:
        """K07: a start broken off by a kill -9 is finished after the restart, with one result."""
        self.world.engine.add_image("test/slow:1", Program(output="loading\n", replies={"go": "Done\n"}))
        command = self.world.create(blueprint={"docker": {"image": "test/slow:1"}})
        self.world.settle(2)
        self.world.restart()
        self.world.settle(2)
        self.assertEqual(self.world.status(), "starting")
        self.world.engine.print(CONTAINER, "Done\n")
        self.world.settle(1)
        self.assertEqual(self.answer(command)["status"], "running")

    def test_a_line_is_not_typed_twice(self) -> None:
        """A server.command that had begun is answered as interrupted, not typed again."""
        self.running()
        command = self.world.send("server.stop", serverId="srv_1", timeout=20)
        self.world.settle(0)
        self.world.restart()
        self.world.settle(30)
        self.assertEqual(self.world.result(command)["status"], "succeeded")
        self.assertEqual(self.world.status(), "stopped")


class EngineRestartTests(_Case):
    def test_live_restore(self) -> None:
        """K01: dockerd restarts with live-restore: no server is started or stopped, its console is joined again."""
        self.running()
        self.world.engine.go_down()
        self.world.settle(5)
        self.world.engine.come_back()
        self.world.settle(10)
        self.assertEqual(self.world.status(), "running")
        self.assertEqual(self.statuses()[-1], "running")
        self.assertTrue(self.world.consoles.open_ones["srv_1"].attached)

    def test_without_live_restore(self) -> None:
        """K01: dockerd takes the containers down with it: `crashed`, docker_restart, and back by the crash policy."""
        self.world.engine.live_restore = False
        self.running(blueprint={"crash": {"restart": True}})
        self.world.engine.go_down()
        self.world.settle(5)
        self.world.engine.come_back()
        self.world.settle(10)
        crashed = self.world.store.events("server.status", status="crashed")
        self.assertEqual([event["reason"] for event in crashed], ["docker_restart"])
        self.world.settle(10)
        self.assertEqual(self.world.status(), "running")

    def test_first_the_games_then_the_engine(self) -> None:
        """K01: without live restore a game's end that is told a moment before dockerd's own is docker_restart too."""
        self.world.engine.live_restore = False
        self.world.settle(11)  # the engine is asked what it is like
        self.running(blueprint={"crash": {"restart": True}})
        self.world.engine.crash(CONTAINER, 0)
        self.world.settle(0.5)
        self.assertEqual(self.statuses()[-1], "running")
        self.world.engine.go_down()
        self.world.settle(5)
        self.world.engine.come_back()
        self.world.settle(20)
        ends = [
            event for event in self.world.store.events("server.status") if event["status"] in ("crashed", "stopped")
        ]
        self.assertEqual([(end["status"], end["reason"]) for end in ends[-1:]], [("crashed", "docker_restart")])
        self.assertEqual(self.world.status(), "running")

    def test_end_of_its_own_without_live_restore(self) -> None:
        """Where the engine goes on the end is told a moment later, as the game's own; OOM at once (K20)."""
        self.world.engine.live_restore = False
        self.world.settle(11)  # the engine is asked what it is like
        self.running()
        self.world.engine.crash(CONTAINER, 3)
        self.world.settle(2)
        told = self.world.store.events("server.status")[-1]
        self.assertEqual((told["status"], told["reason"], told["exitCode"]), ("crashed", "exit", 3))
        start = self.world.send("server.start", serverId="srv_1")
        self.world.settle(1)
        self.assertEqual(self.world.result(start)["status"], "succeeded")
        self.world.engine.oom(CONTAINER)
        self.world.settle(0)
        self.assertEqual(self.world.store.events("server.status")[-1]["reason"], "oom")

    def test_end_of_its_own_while_the_engine_is_away(self) -> None:
        """K01: with live-restore a game that ended by itself with 0 meanwhile is stopped, and stays so."""
        self.running(blueprint={"crash": {"restart": True}})
        self.world.engine.go_down()
        self.world.settle(2)
        self.world.engine.get(CONTAINER).end(0)
        self.world.engine.come_back()
        self.world.settle(20)
        self.assertEqual(self.statuses()[-1], "stopped")

    def test_frozen(self) -> None:
        """K02: an engine that accepts and never answers is found out, and the node told, within its timeouts."""
        self.running()
        self.world.engine.faults.hang(2, name="version")
        self.world.settle(100, step=1)
        told = [connected for connected, _ in self.world.links]
        self.assertIn(False, told)
        self.assertIs(told[-1], True)
        self.assertEqual(self.world.status(), "running")


class CommandTests(_Case):
    def test_same_id_a_hundred_times(self) -> None:
        """K12: the same command sent 100 times runs once and is answered 100 times, 99 with `repeat`."""
        for _ in range(100):
            self.world.send("server.create", "cmd_same", serverId="srv_1", blueprint=GAME)
        self.world.settle(2)
        results = self.world.store.events("command.result", commandId="cmd_same")
        self.assertEqual(len(results), 100)
        self.assertEqual(sum(1 for result in results if result.get("repeat")), 99)
        self.assertEqual(len(self.world.store.events("command.ack", commandId="cmd_same")), 100)
        self.assertEqual(self.statuses().count("starting"), 1)

    def test_same_id_for_another(self) -> None:
        """An id used again for another command is refused."""
        self.world.send("server.list", "cmd_same")
        self.world.send("node.info", "cmd_same")
        self.world.settle(1)
        refused = self.world.store.events("command.result", commandId="cmd_same", status="rejected")
        self.assertEqual([body["error"]["code"] for body in refused], ["invalid_command"])  # type: ignore[index,call-overload]

    def test_unknown_type(self) -> None:
        """A command that this daemon does not know is rejected without an ack."""
        command = self.world.send("server.fly", serverId="srv_1")
        self.assertEqual(self.error(command), ("rejected", "unknown_command"))
        self.assertEqual(self.world.store.events("command.ack"), [])

    def test_list(self) -> None:
        """server.list tells every server with its state."""
        self.running()
        command = self.world.send("server.list")
        self.world.settle(1)
        rows = self.answer(command)["servers"]
        assert isinstance(rows, list)
        self.assertEqual([(row["serverId"], row["status"]) for row in rows], [("srv_1", "running")])  # type: ignore[index,call-overload]

    def test_draining_starts_nothing(self) -> None:
        """A draining node refuses create and start."""
        self.world.draining = True
        command = self.world.create()
        self.world.settle(1)
        self.assertEqual(self.error(command), ("rejected", "draining"))

    def test_shutdown_stops_servers(self) -> None:
        """node.shutdown with stopServers stops each, and the end of the process comes after its result."""
        self.running()
        command = self.world.send("node.shutdown", stopServers=True)
        self.world.settle(2)
        self.assertEqual(self.answer(command), {})
        self.assertEqual(self.world.status(), "stopped")
        self.assertEqual([type(request).__name__ for request in self.world.finished][-1], "NodeShutdown")

    def test_database_full(self) -> None:
        """K14: while the database cannot commit, results wait; they are sent in order once it can again."""
        self.running()
        command = self.world.send("server.stop", serverId="srv_1")
        self.world.store.broken = True
        self.world.settle(5)
        self.world.store.broken = False
        self.world.settle(10)
        self.assertEqual(self.world.status(), "stopped")
        self.assertIn(self.world.result(command)["status"], ("succeeded", "failed"))
