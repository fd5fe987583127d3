"""K04, K05, K06, K07: any sequence of commands, deaths, engine faults and daemon restarts ends in a true state."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Json, Origin
from stellarstack.core.records import ServerStatus
from stellarstack.errors import DockerUnavailable, EngineRefused, PortInUse, StellarError, TimedOut
from tests.fake_container import Program
from tests.household import GAME, NODE, World

STEPS = int(os.environ.get("STELLAR_MODEL_STEPS", "5000"))
STEPS_EACH = 40
SERVERS = ["a", "b", "c"]
PROGRAMS = {
    "game": Program(output="Done\n", replies={"stop": 0}),
    "rude": Program(output="Done\n", replies={"stop": 7}, delay=2.0),
    "deaf": Program(output="Done\n", signals={}),
    "never": Program(output="loading\n", replies={"stop": 0}),
    "dies": Program(output="oops\n", exit_after=0.0, exit_code=3),
    "flap": Program(output="Done\n", exit_after=4.0, exit_code=1),
    "short": Program(output="Done\n", exit_after=3.0),
}
INSTALLS = {
    "installs": Program(output="fetching\n", exit_after=2.0),
    "fails": Program(output="no\n", exit_after=1.0, exit_code=3),
    "hangs": Program(output="...\n"),
}
# The first ones are what Hypothesis likes best.
IMAGES = st.sampled_from(["game"] * 3 + ["rude", "deaf", "never", "flap", "short", "dies", "pulled", "missing"])
CALLS = [
    "create_container", "start", "kill", "remove", "inspect", "attach", "create_network", "remove_network",
    "networks", "has_image", "pull", "containers", "wait", "version", "resize", "*",
]  # fmt: skip
ERRORS = [
    DockerUnavailable("Docker does not answer (test)"),
    TimedOut("Docker did not end (test)"),
    EngineRefused("Docker: no (test)"),
    PortInUse("port 1 is in use (test)"),
]
PLAIN = ERRORS[:2]


def blueprint(image: str, install: str | None, restart: bool) -> dict[str, Json]:
    made: dict[str, Json] = {
        **GAME,
        "docker": {"image": f"test/{image}:1", "stop_command": "stop", "stop_timeout": 6},
        "startup": {"command": "./game", "readyCheck": {"type": "log", "pattern": "Done", "timeout": 20}},
        "crash": {"restart": restart, "limit": 2, "window": 600},
    }
    if install is not None:
        made["install"] = {"image": f"test/{install}:1", "entrypoint": "sh", "script": "x", "timeout": 15}
    return made


# Seconds that a call to the engine takes, one call that is slower, and how slow.
Pace = tuple[float, str, float]
PACES: st.SearchStrategy[Pace] = st.tuples(
    st.sampled_from([0.1, 0.0, 0.4]), st.sampled_from(CALLS[:-1]), st.sampled_from([0.5, 1.0, 3.0, 8.0])
)
MOMENTS = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0])
KINDS = ["start", "restart", "stop", "kill", "delete"]


class HouseholdMachine(RuleBasedStateMachine):
    """Drives a World. `rest` mends what was broken, lets time pass and looks at everything."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="household"))
        self.world = World(self.root)
        engine = self.world.engine
        for name, program in (*PROGRAMS.items(), *INSTALLS.items()):
            engine.add_image(f"test/{name}:1", program)
        engine.registry["test/pulled:1"] = PROGRAMS["game"]
        self.alive = False
        self.sent: list[bytes] = []
        self.kept: set[str] = set()
        self.last: dict[str, tuple[str, str]] = {}
        self.number = 0

    @initialize(slow_store=st.booleans(), images=st.tuples(IMAGES, IMAGES), restart=st.booleans(), pace=PACES)
    def begin(self, slow_store: bool, images: tuple[str, str], restart: bool, pace: Pace) -> None:
        """Two servers are there already."""
        if slow_store:
            self.world.commit_delay = lambda _: 0.02
            self.world.build()
        self.revive()
        for server_id, image in zip("ab", images, strict=True):
            self.send("server.create", server_id, blueprint=blueprint(image, None, restart), config={"ports": []})
        self.settle(2.5)
        self.latency(pace)

    def teardown(self) -> None:
        try:
            self.rest()
        finally:
            if self.alive:
                self.world.kill()
            shutil.rmtree(self.root)

    # ------------------------------------------------------------------ commands

    def send(self, kind: str, server_id: str, late: bool = False, **payload: Any) -> None:
        self.number += 1
        command_id = f"cmd_{self.number}"
        body: dict[str, Any] = {"id": command_id, "type": kind, "payload": {"serverId": server_id, **payload}}
        if late:
            body["expiresAt"] = self.world.clock.seconds() + 1.0
        self.last[server_id] = (kind, command_id)
        self.receive(json.dumps(body).encode())

    def receive(self, raw: bytes) -> None:
        """As from the queue: what cannot be journaled is gone, here nobody sends it again."""
        self.sent.append(raw)
        if not self.alive:
            return
        answers: list[Any] = []
        Deferred.fromCoroutine(self.world.intake.receive(raw, Origin.QUEUE)).addBoth(answers.append)
        self.world.run(0.05)
        if answers and isinstance(answers[0], Failure):
            answers[0].trap(StellarError)

    @rule(
        server_id=st.sampled_from(SERVERS), image=IMAGES,
        install=st.sampled_from([None, None, None, None, *INSTALLS]), restart=st.booleans(), start=st.booleans(),
        port=st.sampled_from([None, 40101, 40102]),
    )  # fmt: skip
    def create(
        self, server_id: str, image: str, install: str | None, restart: bool, start: bool, port: int | None
    ) -> None:
        config = {"ports": [port] if port else []}
        self.send(
            "server.create", server_id, blueprint=blueprint(image, install, restart), start=start, config=config
        )  # fmt: skip

    def server(self, data: st.DataObject) -> str:
        """Mostly one that is there."""
        return data.draw(st.sampled_from([*sorted(self.world.store.documents) * 6, *SERVERS]), label="server")

    @rule(data=st.data(), kind=st.sampled_from(["start", "start", "stop", "restart", "kill", "reinstall"]),
          late=st.sampled_from([False, False, False, False, False, True]))  # fmt: skip
    def power(self, data: st.DataObject, kind: str, late: bool) -> None:
        self.send(f"server.{kind}", self.server(data), late)

    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        self.send("server.start", self.server(data))

    @rule(data=st.data(), seconds=st.sampled_from([None, None, 0, 3]))
    def stop(self, data: st.DataObject, seconds: float | None) -> None:
        self.send("server.stop", self.server(data), timeout=seconds)

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.send("server.kill", self.server(data))

    @rule(data=st.data(), first=st.sampled_from([*KINDS, "create"]), moment=MOMENTS, second=st.sampled_from(KINDS[2:]),
          install=st.sampled_from([None, "installs"]))  # fmt: skip
    def overtake(self, data: st.DataObject, first: str, moment: float, second: str, install: str | None) -> None:
        """Two commands, the second while the first is somewhere on its way."""
        server_id = self.server(data)
        if first == "create":
            self.create(server_id, "game", install, restart=False, start=True, port=None)
        else:
            self.send(f"server.{first}", server_id)
        self.world.run(moment)
        self.send(f"server.{second}", server_id)

    @rule(data=st.data(), moment=MOMENTS, kind=st.sampled_from(["start", "create", *KINDS]))
    def die_during(self, data: st.DataObject, moment: float, kind: str) -> None:
        """K07: kill -9 somewhere in a command."""
        server_id = self.server(data)
        if kind == "create":
            self.create(server_id, "game", "installs", restart=False, start=True, port=None)
        else:
            self.send(f"server.{kind}", server_id)
        self.world.run(moment)
        if self.alive:
            self.kill_nine(0.0, True)

    @rule(data=st.data(), moment=MOMENTS, kind=st.sampled_from(["start", "restart"]), end=st.sampled_from([0, 9]))
    def end_during(self, data: st.DataObject, moment: float, kind: str, end: int) -> None:
        """The game dies somewhere in a start."""
        server_id = self.server(data)
        self.send(f"server.{kind}", server_id)
        self.world.run(moment)
        for container in self.world.engine.all():
            if container.name == f"{NODE}.{server_id}":
                container.end(end)

    @rule(data=st.data(), files=st.booleans())
    def delete(self, data: st.DataObject, files: bool) -> None:
        server_id = self.server(data)
        if not files:
            self.kept.add(server_id)
        self.send("server.delete", server_id, deleteFiles=files)

    @rule(data=st.data(), line=st.sampled_from(["hello", "stop"]))
    def type(self, data: st.DataObject, line: str) -> None:
        self.send("server.command", self.server(data), command=line)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        self.receive(self.sent[data.draw(st.integers(max(0, len(self.sent) - 6), len(self.sent) - 1))])
        self.last.clear()

    # ------------------------------------------------------------------ what happens to games

    def names(self) -> list[str]:
        return [container.name for container in self.world.engine.all()]

    @precondition(lambda self: self.names())
    @rule(data=st.data(), end=st.sampled_from(["0", "1", "137", "oom", "vanish", "by hand"]))
    def game(self, data: st.DataObject, end: str) -> None:
        name, engine = data.draw(st.sampled_from(self.names())), self.world.engine
        if end == "vanish":
            engine.vanish(name)
        elif end == "oom":
            engine.oom(name)
        elif end != "by hand":
            engine.crash(name, int(end))
        elif name.startswith(NODE) and not engine.down:
            self.last.pop(name.removeprefix(f"{NODE}."), None)
            latency, engine.faults.latency = engine.faults.latency, None  # at once, not while a kill is on its way
            Deferred.fromCoroutine(engine.start(name)).addErrback(lambda failure: failure.trap(StellarError) and None)
            engine.faults.latency = latency

    # ------------------------------------------------------------------ what happens to the engine

    @rule(call=st.sampled_from(CALLS), error=st.sampled_from([None, *ERRORS]), effect=st.booleans(),
          times=st.sampled_from([1, 1, 1, 3]))  # fmt: skip
    def fail(self, call: str, error: Exception | None, effect: bool, times: int) -> None:
        faults = self.world.engine.faults
        if error is None:
            faults.hang(1, name=call, effect=effect)
        elif call == "start" or error in PLAIN:
            faults.fail(call, error, times=times, effect=effect and error in PLAIN)

    @rule(pace=PACES)
    def change_pace(self, pace: Pace) -> None:
        self.latency(pace)

    def latency(self, pace: Pace) -> None:
        faults, (usual, slow_call, slow) = self.world.engine.faults, pace
        faults.mend()
        slowness: dict[str, float] = {slow_call: slow, "follow_events": 0.0}
        faults.latency = (lambda name: slowness.get(name, usual)) if usual else None

    @precondition(lambda self: not self.world.engine.down)
    @rule(live_restore=st.booleans(), seconds=st.sampled_from([0.0, 1.0, 12.0]), back=st.booleans())
    def dockerd_down(self, live_restore: bool, seconds: float, back: bool) -> None:
        self.world.engine.live_restore = live_restore
        self.world.engine.go_down()
        self.settle(seconds)
        if back:
            self.world.engine.come_back()

    @precondition(lambda self: self.world.engine.down)
    @rule()
    def dockerd_up(self) -> None:
        self.world.engine.come_back()

    # ------------------------------------------------------------------ what happens to the daemon

    @precondition(lambda self: self.alive)
    @rule(seconds=st.sampled_from([0.0, 0.0, 3.0]), back=st.booleans())
    def kill_nine(self, seconds: float, back: bool) -> None:
        self.world.kill()
        self.alive = False
        self.settle(seconds)
        if back:
            self.world.build()
            self.revive()

    @precondition(lambda self: not self.alive)
    @rule()
    def start_again(self) -> None:
        self.world.build()
        self.revive()

    def revive(self) -> None:
        self.alive = True
        self.world.start()

    @rule(broken=st.sampled_from([True, False, False]), draining=st.sampled_from([True, False, False]))
    def node(self, broken: bool, draining: bool) -> None:
        """The database and the drain."""
        self.world.store.broken = broken
        self.world.draining = draining

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 2.5, 7.0, 30.0]))
    def time(self, seconds: float) -> None:
        self.settle(seconds)

    def settle(self, seconds: float) -> None:
        self.world.run(seconds)

    # ------------------------------------------------------------------ what must hold

    @invariant()
    def one_process_each(self) -> None:
        """Never two processes of one server, whatever is broken."""
        running = Counter(
            (container.labels.get("stellarstack.server"), container.labels.get("stellarstack.role"))
            for container in self.world.engine.all()
            if container.running
        )
        assert all(count == 1 for count in running.values()), running

    @rule()
    def rest(self) -> None:
        """All is mended; after a while everything told must be so."""
        world = self.world
        world.engine.faults.mend()
        world.engine.faults.latency = None
        world.store.broken = False
        if world.engine.down:
            world.engine.come_back()
        if not self.alive:
            self.start_again()
        for _ in range(40):  # starts that wait for a ready line that never comes take their time, one after the other
            world.run(60)
            if set(world.store.commands) <= set(world.store.results):
                break
        world.run(100)
        self.states_are_true()
        self.books_are_true()
        self.nothing_is_left()

    def states_are_true(self) -> None:
        world = self.world
        running = {one.labels["stellarstack.server"] for one in world.engine.all() if one.running}
        for server in world.household.all():
            allowed = {ServerStatus.RUNNING, ServerStatus.STARTING} if server.id in running else {
                ServerStatus.STOPPED, ServerStatus.CRASHED,
            }  # fmt: skip
            assert server.status in allowed, (server.id, server.status, server.id in running)
            told = [event["status"] for event in world.store.events("server.status", serverId=server.id)]
            assert server.told, f"{server.id} was not told in this life of the daemon"
            assert told[-1] == server.status.value, (server.id, told[-4:], server.status)
            assert server.id not in running or server.console.attached, f"{server.id} runs without its console"
            assert (server.id in world.gauges.tracked) == (server.id in running)
            kind, command_id = self.last.get(server.id, ("", ""))
            result = world.store.results.get(command_id)
            if kind in ("server.stop", "server.kill") and result and result.fields["status"] == "succeeded":
                assert server.id not in running, f"{server.id} runs after {kind}"

    def books_are_true(self) -> None:
        store, household = self.world.store, self.world.household
        assert {server.id: server.record.to_document() for server in household.all()} == store.documents
        unanswered = [command for command in store.commands if command not in store.results]
        assert not unanswered, f"no result: {[(one, store.commands[one].type) for one in unanswered]}"
        results, acks = store.events("command.result"), store.events("command.ack")
        for command_id in store.commands:
            own = [one for one in results if one["commandId"] == command_id and one.get("repeat") is None]
            again = [one for one in results if one["commandId"] == command_id and one.get("repeat")]
            told = [one for one in acks if one["commandId"] == command_id]
            assert len(own) == 1 and len(told) == 1 + len(again), (command_id, own, again, told)
        subnets = [server.record.subnet for server in household.all()]
        ports = [port.host for server in household.all() for port in server.spec.ports]
        assert len(set(subnets)) == len(subnets) and len(set(ports)) == len(ports), (subnets, ports)

    def nothing_is_left(self) -> None:
        world = self.world
        here = {server.id for server in world.household.all()}
        names = {f"{NODE}.{server_id}" for server_id in here}
        assert set(self.names()) <= names, (self.names(), here)
        networks = set(world.engine.bridges.list({"stellarstack.node": NODE}))
        assert networks <= names, (networks, here)
        folders = {path.name for path in (self.root / "servers").glob("*")}
        assert folders <= here | self.kept, (folders, here)
        assert world.tasks.names() == ["engine watch"], world.tasks.names()
        calls = world.clock.getDelayedCalls()
        assert len(calls) <= 1, calls  # the keeper's pulse
        assert not any(container.waiters for container in world.engine.all())
        assert set(world.consoles.open_ones) == here
        assert len(world.subnets_given()) == len(here)


class ModelTests(SynchronousTestCase):
    def test_any_sequence(self) -> None:
        """K04: at rest each reported state is Docker's, each command has one result, and nothing is left over."""
        run_state_machine_as_test(
            HouseholdMachine,
            settings=settings(
                max_examples=max(1, STEPS // STEPS_EACH), stateful_step_count=STEPS_EACH, deadline=None,
                print_blob=True, report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
