"""The node's lifecycle: every stage with every input, and walks that nobody wrote down."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.node_lifecycle import NodeLifecycle, NodeState, Stage
from stellarstack.errors import InvalidState
from tests.examples import examples

Input = Callable[[NodeLifecycle], None]
INPUTS: dict[str, Input] = {
    "registered": lambda node: node.registered(),
    "connected": lambda node: node.connected(),
    "disconnected": lambda node: node.disconnected("Docker"),
    "overdue": lambda node: node.not_connected_in_time(60.0),
    "refused": lambda node: node.refused("WRONGPASS"),
    "out": lambda node: node.heartbeat_out(),
    "missed": lambda node: node.heartbeats_missed(3),
    "lost": lambda node: node.heartbeats_lost(5),
    "drain": lambda node: node.drain(),
    "cancel": lambda node: node.drain_cancelled(),
    "drained": lambda node: node.drained(),
}
_S = Stage
# How to come to each stage.
PATHS: dict[Stage, str] = {
    _S.UNREGISTERED: "",
    _S.RESUMING: "drain",
    _S.CONNECTING: "registered",
    _S.GREETING: "registered connected",
    _S.ONLINE: "registered connected out",
    _S.LATE: "registered overdue",
    _S.SILENT: "registered connected out missed",
    _S.LOST: "registered connected out missed lost",
    _S.REFUSED: "registered refused",
    _S.MENDED: "registered refused connected",
    _S.DRAINING: "registered connected out drain",
    _S.EMPTIED: "registered connected out drain drained",
}
# What each input leads to, in the order of INPUTS: a stage's name, `=` for no change, `x` for refused.
# fmt: off
TABLE = """
             registered  connected disconnected overdue refused out     missed  lost drain    cancel drained
unregistered connecting  x         x            x       x       x       x       x    resuming x            x
resuming     draining    x         x            x       x       x       x       x    =        unregistered x
connecting   x           greeting  =            late    refused =       =       =    draining x      x
greeting     x           =         connecting   silent  refused online  =       =    draining x      x
online       x           =         =            =       refused =       silent  lost draining x      x
late         x           silent    =            =       refused =       =       =    draining x      x
silent       x           =         =            =       refused online  =       lost draining x      x
lost         x           =         =            =       refused online  =       =    draining x      x
refused      x           mended    =            =       =       =       =       =    draining x      x
mended       x           =         refused      =       refused online  =       =    draining x      x
draining     x           =         =            =       =       =       =       =    =        online emptied
emptied      x           =         =            =       =       =       =       =    =        online =
"""
# fmt: on


def _rows() -> dict[Stage, dict[str, Stage | None]]:
    names, *lines = TABLE.strip().splitlines()
    rows: dict[Stage, dict[str, Stage | None]] = {}
    for line in lines:
        origin, *targets = line.split()
        meanings = {"=": Stage(origin), "x": None}
        rows[Stage(origin)] = {
            name: meanings[target] if target in meanings else Stage(target)
            for name, target in zip(names.split(), targets, strict=True)
        }
    return rows


def _node_at(stage: Stage) -> NodeLifecycle:
    node = NodeLifecycle()
    _feed(node, PATHS[stage])
    return node


def _feed(node: NodeLifecycle, names: str) -> None:
    for name in names.split():
        INPUTS[name](node)


class TableTests(SynchronousTestCase):
    """State by state, input by input."""

    def test_every_stage_and_input(self) -> None:
        """Each input leads each stage where the table says, or is refused and changes nothing."""
        rows = _rows()
        self.assertEqual(set(rows), set(Stage))
        for stage, row in rows.items():
            self.assertEqual(set(row), set(INPUTS))
            for name, target in row.items():
                feed = INPUTS[name]
                node = _node_at(stage)
                self.assertIs(node.stage, stage)
                if target is None:
                    self.assertRaises(InvalidState, feed, node)
                    self.assertIs(node.stage, stage, name)
                else:
                    feed(node)
                    self.assertIs(node.stage, target, f"{stage} {name}")

    def test_refusal_tells_its_story(self) -> None:
        """A refused input says what the node is, and how it came to be so."""
        node = _node_at(Stage.ONLINE)
        error = self.assertRaises(InvalidState, node.drained)
        self.assertIn("the node is ONLINE: drained does not fit", str(error))
        self.assertIn("connected=greeting > heartbeat_out=online", str(error))

    def test_usable_after_a_refusal(self) -> None:
        """A refused input leaves a node that takes the next one."""
        node = _node_at(Stage.ONLINE)
        self.assertRaises(InvalidState, node.drain_cancelled)
        node.drain()
        self.assertIs(node.state, NodeState.DRAINING)


class ChangeTests(SynchronousTestCase):
    """What listeners hear."""

    def setUp(self) -> None:
        self.heard: list[tuple[str, str, str]] = []

    def _heard(self, previous: NodeState, state: NodeState, reason: str) -> None:
        self.heard.append((previous.value, state.value, reason))

    def test_life(self) -> None:
        """A node that comes up, falls silent, is lost and recovers tells exactly its changes of state."""
        node = NodeLifecycle(changed=self._heard)
        _feed(node, "registered disconnected connected out out missed missed lost out")
        self.assertEqual(
            self.heard,
            [
                ("OFFLINE", "STARTING", "registered"),
                ("STARTING", "ONLINE", "heartbeat out"),
                ("ONLINE", "UNHEALTHY", "3 heartbeats missed"),
                ("UNHEALTHY", "OFFLINE", "5 heartbeats missed"),
                ("OFFLINE", "ONLINE", "heartbeat out"),
            ],
        )

    def test_late(self) -> None:
        """Heartbeats that get out make no healthy node of one whose Docker was not there in time."""
        node = NodeLifecycle(changed=self._heard)
        _feed(node, "registered overdue out connected out")
        self.assertEqual(
            [(state, reason) for _, state, reason in self.heard[1:]],
            [("UNHEALTHY", "not connected within 60 s"), ("ONLINE", "heartbeat out")],
        )

    def test_refused(self) -> None:
        """Refused credentials are ERROR with the reason, until a heartbeat proves them mended."""
        node = NodeLifecycle(changed=self._heard)
        _feed(node, "registered refused refused connected out")
        self.assertEqual(self.heard[1:], [("STARTING", "ERROR", "WRONGPASS"), ("ERROR", "ONLINE", "heartbeat out")])

    def test_drain_outlives_missed_heartbeats(self) -> None:
        """DRAINING stays through missed heartbeats and refusals, and ends OFFLINE when no server is left."""
        node = NodeLifecycle(changed=self._heard)
        _feed(node, "registered connected out drain missed lost refused disconnected out")
        self.assertIs(node.state, NodeState.DRAINING)
        node.drained()
        node.heartbeat_out()
        self.assertIs(node.state, NodeState.OFFLINE)
        self.assertTrue(node.draining)
        self.assertEqual(self.heard[-1], ("DRAINING", "OFFLINE", "no server is left"))

    def test_drain_outlives_a_restart(self) -> None:
        """A node that was being drained when the daemon ended drains on as soon as it is registered."""
        node = NodeLifecycle(changed=self._heard, draining=True)
        self.assertIs(node.state, NodeState.OFFLINE)
        self.assertTrue(node.draining)
        node.registered()
        self.assertEqual(self.heard, [("OFFLINE", "DRAINING", "drain goes on after a restart")])
        node.drain_cancelled()
        self.assertIs(node.state, NodeState.ONLINE)
        self.assertFalse(node.draining)

    def test_order_when_a_listener_moves_on(self) -> None:
        """A listener that makes the next change does not turn the order round for the others."""
        node = NodeLifecycle()

        def eager(_previous: NodeState, state: NodeState, _reason: str) -> None:
            if state is NodeState.ONLINE:
                node.drain()

        node.listen(eager)
        node.listen(self._heard)
        _feed(node, "registered connected out")
        self.assertEqual([state for _, state, _ in self.heard], ["STARTING", "ONLINE", "DRAINING"])


class WalkTests(SynchronousTestCase):
    """What holds on any walk."""

    @examples(35)
    @given(st.lists(st.sampled_from(sorted(INPUTS)), max_size=60), st.booleans())
    def test_changes_join_up(self, walk: list[str], draining: bool) -> None:
        """The changes form one unbroken chain from OFFLINE to the state, none of them from a state to itself."""
        chain: list[tuple[NodeState, NodeState]] = []
        node = NodeLifecycle(changed=lambda previous, state, _: chain.append((previous, state)), draining=draining)
        for name in walk:
            try:
                INPUTS[name](node)
            except InvalidState as error:
                self.assertIn(node.state.value, str(error))
        ends = [NodeState.OFFLINE, *(state for _, state in chain)]
        self.assertEqual([previous for previous, _ in chain], ends[:-1])
        self.assertIs(node.state, ends[-1])
        self.assertTrue(all(previous is not state for previous, state in chain))

    @examples(35)
    @given(st.lists(st.sampled_from(sorted(set(INPUTS) - {"cancel", "drained"})), max_size=60))
    def test_draining_holds(self, walk: list[str]) -> None:
        """Once DRAINING, only a cancel or the last server's end leaves it."""
        node = _node_at(Stage.DRAINING)
        for name in walk:
            if name == "registered":
                self.assertRaises(InvalidState, node.registered)
            else:
                INPUTS[name](node)
            self.assertIs(node.state, NodeState.DRAINING)
