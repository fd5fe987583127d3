"""Listeners that keep what an engine tells, and the programs that the engine's contract runs."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TypeVar

from twisted.internet.defer import Deferred

from stellarstack.interfaces import Engine, EngineEvent
from tests.fake_container import Program

T = TypeVar("T")

# What the contract's containers run: a shell script for the real engine, the same as a Program for the fake.
TALK = "echo ready; while read x; do case $x in stop) exit 0;; fail) exit 3;; *) echo got $x;; esac; done"
OBEY = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done"
DEAF = "echo ready; exec sleep 1000"
COUNT = "echo one; echo two; echo three; exec sleep 1000"

PROGRAMS: Mapping[str, Program] = {
    TALK: Program(output="ready\n", replies={"stop": 0, "fail": 3, "hi": "got hi\n"}, signals={}),
    OBEY: Program(output="ready\n", signals={"SIGTERM": 7}),
    DEAF: Program(output="ready\n", signals={}),
    COUNT: Program(output="one\ntwo\nthree\n", signals={}),
}


class Recorder:
    """An OutputSink that keeps what came and lets a test wait for it."""

    def __init__(self) -> None:
        self.data = b""
        self.ends = 0
        self.ended: Deferred[None] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []

    def output_received(self, data: bytes) -> None:
        self.data += data
        due = [one for one in self._waiting if one[0] in self.data]
        self._waiting = [one for one in self._waiting if one not in due]
        for _, waiter in due:
            waiter.callback(None)

    def output_ended(self) -> None:
        self.ends += 1
        if self.ends == 1:
            self.ended.callback(None)

    def has(self, wanted: bytes) -> Deferred[None]:
        """Fires when `wanted` has been printed."""
        waiter: Deferred[None] = Deferred()
        if wanted in self.data:
            waiter.callback(None)
        else:
            self._waiting.append((wanted, waiter))
        return waiter


class Followed:
    """The event feed, followed from `since` until the test is over."""

    def __init__(self, engine: Engine, since: float) -> None:
        self.events: list[EngineEvent] = []
        self.connected: Deferred[None] = Deferred()
        self._waiting: list[Deferred[None]] = []
        following = engine.follow_events(since, self._received, lambda: self.connected.callback(None))
        self.ended = deferred(following)

    def _received(self, event: EngineEvent) -> None:
        self.events.append(event)
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def next(self) -> Deferred[None]:
        """Fires with the next event."""
        waiter: Deferred[None] = Deferred()
        self._waiting.append(waiter)
        return waiter

    def actions(self, container: str) -> list[str]:
        """What happened to this container, in order."""
        return [event.action for event in self.events if event.container_id == container]


def deferred(work: Awaitable[T]) -> Deferred[T]:
    """Lets a call of the engine run beside the test."""

    async def run() -> T:
        return await work

    return Deferred.fromCoroutine(run())
