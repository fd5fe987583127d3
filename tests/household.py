"""A whole household in memory: real lanes, dispatch, keeper and intake over a fake engine, store and clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.auth.signing import CommandAuthority
from stellarstack.bus import Bus
from stellarstack.config import DockerConfig
from stellarstack.core.events import command_failed
from stellarstack.core.messages import Json, Origin
from stellarstack.core.node_lifecycle import NodeLifecycle
from stellarstack.core.records import record_from
from stellarstack.core.requests import ConsoleRevoke, Request
from stellarstack.errors import StellarError
from stellarstack.interfaces import Engine, Store
from stellarstack.servers.blueprints import BlueprintShelf
from stellarstack.servers.bridges import Bridges
from stellarstack.servers.create import Arrivals
from stellarstack.servers.dispatch import Dispatch
from stellarstack.servers.drain import DRAINING_KEY, Drain
from stellarstack.servers.household import Household
from stellarstack.servers.intake import CommandIntake
from stellarstack.servers.keeper import Keeper
from stellarstack.servers.operations import Operations
from stellarstack.servers.ownership import Ownership
from stellarstack.servers.prune import PulledImages, images_of
from stellarstack.servers.resume import sort_out
from stellarstack.servers.subnets import SubnetPool
from stellarstack.servers.surroundings import Surroundings
from stellarstack.servers.threads import Threads
from stellarstack.servers.trees import Trees
from stellarstack.tasks import Tasks
from tests.fake_container import Program
from tests.fake_engine import FakeEngine
from tests.fakes import FakeConsoles, FakeFence, FakeGauges, MemoryStore, at_once
from tests.lifeline import Lifeline

NODE = "node_test"
CONTAINER = f"{NODE}.srv_1"
GAME: dict[str, Json] = {
    "id": "game",
    "name": "Game",
    "docker": {"image": "test/game:1", "stop_command": "stop", "stop_timeout": 30},
    "resources": {"memory": 64, "cpu": 0.5, "disk": 64, "pids": 64},
    "startup": {"command": "./game", "readyCheck": {"type": "log", "pattern": "Done", "timeout": 60}},
    "crash": {"restart": False},
}


class World:
    """One daemon's brain. `restart` makes a second one over the same engine and store, as after a kill -9."""

    def __init__(self, root: Path, program: Program | None = None) -> None:
        self.root = root
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.engine = FakeEngine(clock=self.clock)
        self.engine.add_image("test/game:1", program or Program(output="loading\nDone\n", replies={"stop": 0}))
        self.store = MemoryStore(NODE, self.clock.seconds)
        self.threads: Threads = at_once
        self.docker = DockerConfig()
        self.commit_delay: Callable[[str], float] | None = None
        self.number = 0
        self.installation = "1" * 32
        self.draining = False
        self.docker = DockerConfig()
        self.build()

    def build(self) -> None:
        """The rooms, wired as daemon.py does."""
        self.tasks, self.gauges, self.finished = Tasks(), FakeGauges(), list[Request]()
        self.fence = FakeFence()
        self.links: list[tuple[bool, StellarError | None]] = []
        self.hold = Lifeline(self.engine, self.clock)
        self.book = Lifeline(self.store, self.clock, self.commit_delay)
        engine, store = cast(Engine, self.hold), cast(Store, self.book)
        self.consoles = FakeConsoles(engine)
        self.bus = Bus(node_id=NODE, store=store, clock=self.clock)
        self.lifecycle = NodeLifecycle()
        self.household = Household(draining=self._drains, on_end=lambda *ended: self.keeper.ended(*ended))
        ownership = Ownership(installation=self.installation, node_id=NODE, engine=engine, store=store)
        subnets = SubnetPool(
            node_id=NODE, engine=engine, pool=IPv4Network("10.213.0.0/16"), threads=self.threads,
            held=self.household.subnets,
        )  # fmt: skip
        around = self.around = Surroundings(
            node_id=NODE, engine=engine, store=store, bus=self.bus, consoles=self.consoles,
            gauges=self.gauges, fence=self.fence, docker=self.docker,
            servers_root=self.root / "servers", state_root=self.root,
            clock=self.clock, now=self.clock.seconds, tasks=self.tasks, threads=self.threads,
            trees=Trees(threads=self.threads, clock=self.clock), probes=self.threads,
            images=PulledImages(
                engine=engine, store=store, clock=self.clock, now=self.clock.seconds, tasks=self.tasks, after=0,
                needed=lambda: images_of(self.household.all()),
            ),
            subnets=subnets,
            ownership=ownership,
            bridges=Bridges(
                node_id=NODE, engine=engine, clock=self.clock, ownership=ownership, subnets=subnets,
                servers=self.household.all,
            ),
        )  # fmt: skip
        shelf = BlueprintShelf(self.root / "blueprints", self.threads)
        self.drain = Drain(
            household=self.household, lifecycle=self.lifecycle, store=store, bus=self.bus, node_id=NODE,
            clock=self.clock, now=self.clock.seconds, tasks=self.tasks,
        )  # fmt: skip
        operations = Operations(
            household=self.household,
            arrivals=Arrivals(household=self.household, around=around, shelf=shelf),
            around=around,
            node_info=self._node_info,
            revoke=self._revoke,
            queue=lambda *work: self.dispatch.add_internal(*work),
            drain=self.drain,
        )
        self.dispatch = Dispatch(
            operations=operations, finished=self.finished.append, bus=self.bus, store=store, node_id=NODE,
            now=self.clock.seconds, tasks=self.tasks, parallel=16, lane_length=64,
        )  # fmt: skip
        self.keeper = Keeper(
            household=self.household, around=around, changed=self._changed, add_internal=self.dispatch.add_internal,
            draining=self._drains, rebooted=lambda: False,
        )  # fmt: skip
        authority = CommandAuthority(keys={}, require_signed=False, node_id=NODE, now=self.clock.seconds)
        self.intake = CommandIntake(
            open_envelope=authority.open_envelope, submit=self.dispatch.submit, bus=self.bus, node_id=NODE,
            clock=self.clock, now=self.clock.seconds, tasks=self.tasks,
        )  # fmt: skip

    def start(self) -> None:
        """Takes the servers in and follows the engine."""
        self.unfinished = done(self.store.unfinished())
        for document in list(self.store.documents.values()):
            done(self.household.take_in(record_from(document), self.around))
        if self.store.values.get(DRAINING_KEY) is True:
            self.lifecycle.drain()
            self.drain.resume()
        self.lifecycle.registered()
        self.lifecycle.connected()
        self.lifecycle.heartbeat_out()
        self.keeper.start()
        self.settle()

    def kill(self) -> None:
        """The daemon dies as by kill -9: nothing is said, nothing is done, nothing is written any more."""
        self.household.closing = True
        self.dispatch.close()
        self.book.cut()
        self.hold.cut()
        done(self.tasks.cancel_all())
        self.consoles.close()

    def restart(self) -> None:
        self.kill()
        self.build()
        self.start()

    def _changed(self, connected: bool, error: StellarError | None) -> None:
        self.links.append((connected, error))
        resumed = sort_out(self.unfinished, self.household)
        self.unfinished = ()
        self.dispatch.open(lambda: resumed.again)
        for command, lost in resumed.lost:
            failed = command_failed(command, NODE, self.clock.seconds(), 0.0, "failed", lost)
            self.tasks.spawn("interrupted command", self.bus.finish(command.id, failed))

    def subnets_given(self) -> list[str]:
        """What the pool believes to be in use."""
        return sorted({*self.around.subnets.given, *self.household.subnets()} - {""})

    def _drains(self) -> bool:
        return self.draining or self.lifecycle.draining

    async def _node_info(self) -> Mapping[str, Json]:
        return {"nodeId": NODE}

    async def _revoke(self, _request: ConsoleRevoke) -> int:
        return 0

    # ------------------------------------------------------------------ what a test says

    def send(self, kind: str, command_id: str = "", **payload: Any) -> str:
        """Sends a command; answers its id."""
        self.number += 1
        command_id = command_id or f"cmd_{self.number}"
        raw = json.dumps({"id": command_id, "type": kind, "payload": payload}).encode()
        done(self.intake.receive(raw, Origin.PUBSUB))
        return command_id

    def send_late(self, kind: str, **payload: Any) -> str:
        """Sends a command whose time was over a second ago."""
        self.number += 1
        expired = self.clock.seconds() - 1.0
        body = {"id": f"cmd_{self.number}", "type": kind, "payload": payload, "expiresAt": expired}
        done(self.intake.receive(json.dumps(body).encode(), Origin.QUEUE))
        return f"cmd_{self.number}"

    def create(self, server_id: str = "srv_1", **more: Any) -> str:
        return self.send("server.create", serverId=server_id, blueprint={**GAME, **more.pop("blueprint", {})}, **more)

    def settle(self, seconds: float = 0.0, step: float = 0.25) -> None:
        """Lets the clock run."""
        self.clock.advance(0)
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step

    def run(self, seconds: float) -> None:
        """Lets so many seconds pass, from one thing that is due to the next."""
        end = self.clock.seconds() + seconds
        while (due := self._next_due()) <= end:
            self.clock.advance(max(0.0, due - self.clock.seconds()))
        self.clock.advance(max(0.0, end - self.clock.seconds()))

    def _next_due(self) -> float:
        return min((call.getTime() for call in self.clock.getDelayedCalls()), default=float("inf"))

    def result(self, command_id: str) -> dict[str, Json]:
        """The one result of a command."""
        found = [one for one in self.store.events("command.result", commandId=command_id) if not one.get("repeat")]
        if len(found) != 1:
            raise AssertionError(f"{command_id} has {len(found)} results")
        return found[0]

    def status(self, server_id: str = "srv_1") -> str | None:
        found = self.household.status_of(server_id)
        return found.value if found else None


def done(work: Any) -> Any:
    """The answer of a coroutine or Deferred that must have ended by now."""
    deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
    answers: list[Any] = []
    deferred.addBoth(answers.append)
    if not answers:
        raise AssertionError("it has not ended")
    if isinstance(answers[0], Failure):
        answers[0].raiseException()
    return answers[0]


class HouseholdCase(SynchronousTestCase):
    """A test with a World, `self.world`, that has started."""

    program: Program | None = None

    def setUp(self) -> None:
        self.world = World(Path(self.mktemp()), self.program)
        self.world.start()
        self.addCleanup(self.world.kill)


class PowerCase(HouseholdCase):
    """Says what came of commands in few words."""

    def image(self, program: Program, name: str = "test/other:1") -> dict[str, Json]:
        """A blueprint's key for an image that runs `program`."""
        self.world.engine.add_image(name, program)
        return {"docker": {"image": name, "stop_command": "stop", "stop_timeout": 30}}

    def made(self, program: Program | None = None, start: bool = True, **more: Any) -> None:
        """A server that is here."""
        blueprint = {**(self.image(program) if program else {}), **more.pop("blueprint", {})}
        command = self.world.create(blueprint=blueprint, start=start, **more)
        self.world.run(1)
        self.assertEqual(self.world.result(command)["status"], "succeeded")

    def power(self, kind: str, **more: Any) -> str:
        return self.world.send(f"server.{kind}", serverId="srv_1", **more)

    def outcome(self, command: str) -> tuple[str, str | None]:
        """Status, and the error's code."""
        result = self.world.result(command)
        error = result.get("error")
        return str(result["status"]), str(error["code"]) if isinstance(error, dict) else None

    def answer(self, command: str) -> dict[str, Json]:
        answer = self.world.result(command)["result"]
        assert isinstance(answer, dict)
        return answer

    def running(self) -> bool:
        return any(one.running for one in self.world.engine.all() if one.name == CONTAINER)

    def told(self) -> list[str]:
        return [str(event["status"]) for event in self.world.store.events("server.status", serverId="srv_1")]
