"""Power over the console, and the lines that people type, as the household hears of them (PROTOCOL 8)."""

from __future__ import annotations

from typing import Any

from stellarstack.config import ConsoleConfig
from stellarstack.core.events import command_ack, command_refused, command_result, deployment_progress
from stellarstack.core.messages import Command, Origin
from stellarstack.errors import InvalidState, ServerNotFound, StoreFailed
from tests.test_websocket import RAW, DoorCase
from tests.ws_client import WsClient, settle

POWER = ("start", "stop", "restart", "kill")


class PowerCase(DoorCase):
    def setUp(self) -> None:
        super().setUp()
        self.rooms.tokens.add("boss", permissions=frozenset({"console.read", *(f"control.{one}" for one in POWER)}))

    def boss(self, **more: Any) -> WsClient:
        viewer = self.join(token="boss", **more)
        viewer.messages()
        return viewer

    def order(self, viewer: WsClient, *actions: str) -> list[Any]:
        """Asks for each; what is answered at once."""
        for action in actions:
            viewer.send_json(type="power", action=action)
        settle(self.clock)
        return viewer.messages()

    def ids(self) -> list[str]:
        return [envelope["id"] for envelope, _, _ in self.rooms.inbox.got]

    def command(self, number: int = 0) -> Command:
        envelope, origin, _ = self.rooms.inbox.got[number]
        return Command(envelope["id"], envelope["type"], envelope["payload"], origin, "srv_1")

    def emit(self, *events: Any) -> None:
        self.now(self.rooms.bus.emit(*events))


class PowerTests(PowerCase):
    """`{"type":"power","action"}`."""

    def test_as_a_command(self) -> None:
        """Each of the four goes in through the intake with an id of the daemon's, for the token's own server."""
        viewer = self.boss()
        self.assertEqual(self.order(viewer, "start", "stop", "restart", "kill"), [])
        got = self.rooms.inbox.got
        self.assertEqual([envelope["type"] for envelope, _, _ in got], [f"server.{one}" for one in POWER])
        self.assertEqual({origin for _, origin, _ in got}, {Origin.CONSOLE})
        self.assertEqual([envelope["payload"] for envelope, _, _ in got], [{"serverId": "srv_1"}] * 4)
        self.assertEqual((len(set(self.ids())), {one[:3] for one in self.ids()}), (4, {"ws_"}))

    def test_answers(self) -> None:
        """Ack, progress and result come as they stand on the wire, to this session alone, in raw ones as text too."""
        viewer, other, raw = self.boss(), self.boss(), self.boss(subprotocols=[RAW])
        for one in (viewer, raw):
            self.order(one, "start")
        raw.messages()
        told = []
        for number in (0, 1):
            command = self.command(number)
            told.append([
                command_ack(command, "node_t", 1.0),
                deployment_progress("srv_1", "node_t", 2.0, "starting"),
                command_result(command, "node_t", 3.0, 2.0, {"status": "running"}),
            ])  # fmt: skip
        strange = Command("cmd_1", "server.start", {}, Origin.QUEUE, "srv_1")
        self.emit(command_ack(strange, "node_t", 0.0), deployment_progress("srv_2", "node_t", 0.0, "starting"))
        self.emit(*told[0])
        settle(self.clock)
        wire = [[{"type": event.type, **event.fields} for event in one] for one in told]
        self.assertEqual((viewer.messages(), other.messages()), (wire[0], []))
        self.assertEqual(raw.messages(), [wire[0][1]])  # the progress of its server, while its own waits
        self.emit(*told[1])
        settle(self.clock)
        self.assertEqual((raw.messages(), viewer.messages(), self.rooms.bus.listeners), (wire[1], [], []))

    def test_permissions(self) -> None:
        """W16: each action needs its own; what is missing is `forbidden`, and nothing goes in."""
        for action in POWER:
            self.rooms.tokens.add("one", permissions=frozenset({"console.read", "console.write", f"control.{action}"}))
            viewer = self.join(token="one")
            viewer.messages()
            answers = self.order(viewer, *(other for other in POWER if other != action))
            self.assertEqual([(m["type"], m["code"]) for m in answers], [("error", "forbidden")] * 3)
            self.assertEqual(self.order(viewer, action), [])
        self.assertEqual([envelope["type"] for envelope, _, _ in self.rooms.inbox.got], [f"server.{a}" for a in POWER])

    def test_renewed_permissions(self) -> None:
        """What a renewal takes away or gives holds from then on; `auth.ok` tells it."""
        self.rooms.tokens.add("less", permissions=frozenset({"console.read", "control.start"}))
        viewer = self.boss()
        viewer.send_json(type="auth", token="less")
        settle(self.clock)
        self.assertEqual(viewer.messages()[0]["permissions"], ["console.read", "control.start"])
        self.assertEqual([m["code"] for m in self.order(viewer, "stop", "start")], ["forbidden"])

    def test_no_action(self) -> None:
        """Anything else is a bad frame."""
        viewer = self.boss()
        for wrong in ("delete", "server.stop", "", 5):
            viewer.send_json(type="power", action=wrong)
        settle(self.clock)
        self.assertEqual([m["code"] for m in viewer.messages()], ["invalid_frame"] * 4)
        viewer.send_json(type="power")
        settle(self.clock)
        self.assertEqual((viewer.close_code, self.rooms.inbox.got), (1008, []))

    def test_which_action_is_refused(self) -> None:
        """An error that answers a power frame names its action, whatever the reason; no other error does."""
        viewer = self.boss()
        refused = [*self.order(viewer, *["stop"] * 4), *self.order(viewer, "kill", "kill")]
        self.assertEqual([(m["code"], m["action"]) for m in refused], [("busy", "stop"), ("rate_limited", "kill")])
        self.rooms.tokens.add("one", permissions=frozenset({"console.read"}))
        reader = self.join(token="one")
        reader.messages()
        reader.send_json(type="input", data="x")
        refused = self.order(reader, "start")
        self.assertEqual([(m["code"], m.get("action")) for m in refused], [("forbidden", None), ("forbidden", "start")])

    def test_busy(self) -> None:
        """Three under way at most, and a kill beside them: a start that hangs can always be killed."""
        viewer = self.boss()
        self.assertEqual([m["code"] for m in self.order(viewer, "start", "stop", "start", "restart")], ["busy"])
        self.assertEqual([m["code"] for m in self.order(viewer, "kill")], [])
        settle(self.clock, 10)
        self.assertEqual([m["code"] for m in self.order(viewer, "kill", "start")], ["busy"] * 2)
        self.emit(command_result(self.command(1), "node_t", 1.0, 1.0, {}))
        settle(self.clock)
        viewer.messages()
        self.assertEqual(self.order(viewer, "stop"), [])
        self.assertEqual(len(self.ids()), 5)

    def test_rate(self) -> None:
        """W13: five at once and one every two seconds; beyond it `rate_limited`, and in the end 1008."""
        viewer = self.boss()
        for number in range(5):
            self.order(viewer, "stop")
            self.emit(command_result(self.command(number), "node_t", 1.0, 0.0, {}))
        settle(self.clock)
        viewer.messages()
        self.assertEqual([m["code"] for m in self.order(viewer, "stop")], ["rate_limited"])
        settle(self.clock, 2)
        self.assertEqual(self.order(viewer, "stop"), [])
        self.order(viewer, *["stop"] * 9)
        self.assertEqual((viewer.close_code, len(self.ids())), (1008, 6))

    def test_refused_by_the_intake(self) -> None:
        """A refusal is the command's result; a database that cannot keep it, too."""
        viewer = self.boss()
        self.order(viewer, "start")
        (command_id,) = self.ids()
        refused = command_refused(
            "node_t", 1.0, ServerNotFound("gone"), command_id=command_id, command="server.start", server_id="srv_1",
            durable=True,
        )  # fmt: skip
        self.emit(refused)
        self.rooms.inbox.fault = StoreFailed("the disk is full")
        settle(self.clock)
        self.assertEqual([m["error"]["code"] for m in viewer.messages()], ["server_not_found"])
        (answer,) = self.order(viewer, "stop")
        self.assertEqual((answer["type"], answer["command"], answer["status"]),
                         ("command.result", "server.stop", "rejected"))  # fmt: skip
        self.assertEqual(answer["error"]["message"], "the disk is full")
        self.rooms.inbox.fault = RuntimeError("bug")
        (answer,) = self.order(viewer, "stop")
        self.assertEqual((answer["error"]["code"], len(self.flushLoggedErrors(RuntimeError))), ("internal", 1))
        self.assertEqual(self.rooms.bus.listeners, [])

    def test_who_leaves(self) -> None:
        """K29: the command goes on, and nobody listens any more."""
        viewer = self.boss()
        self.order(viewer, "stop")
        viewer.drop()
        settle(self.clock)
        self.assertEqual((len(self.ids()), self.rooms.bus.listeners), (1, []))

    def test_audit(self) -> None:
        """`command_sent` with the action and the command's id; none for what was refused."""
        viewer = self.boss()
        self.order(viewer, "stop", "dance")
        (row,) = [row for row in self.rooms.bus.named("console.audit") if row["action"] == "command_sent"]
        self.assertEqual(row["data"], {"command": "power:stop", "commandId": self.ids()[0]})


class UnauditedPower(PowerCase):
    config = ConsoleConfig(audit_commands="off")

    def test_audit_off(self) -> None:
        """`[console] audit_commands = "off"` holds for power actions and lines alike; lines are still heard."""
        self.rooms.tokens.add("good2")
        self.order(self.boss(), "stop")
        viewer = self.join(token="good2")
        viewer.send_json(type="input", data="stop\r")
        settle(self.clock)
        actions = {row["action"] for row in self.rooms.bus.named("console.audit")}
        self.assertEqual((actions, self.rooms.lines), ({"session_start"}, [("srv_1", "stop")]))


class LineTests(DoorCase):
    """viewing.TypedLines."""

    def test_before_the_keys(self) -> None:
        """A line is told before the keys that end it are written; what came in pieces is one line."""
        written: list[object] = []
        self.console.type = lambda data: written.append((data, list(self.rooms.lines)))
        viewer = self.join(subprotocols=[RAW])
        for piece in (b"st", b"ox\x7fp", b"\rsay hi\n\r\nx"):
            viewer.send_bytes(piece)
        settle(self.clock)
        told = [("srv_1", "stop"), ("srv_1", "say hi")]
        self.assertEqual(written, [(b"st", []), (b"ox\x7fp", []), (b"\rsay hi\n\r\nx", told)])

    def test_not_without_permission(self) -> None:
        """Who may not type is not heard."""
        self.rooms.tokens.add("reader", permissions=frozenset({"console.read"}))
        viewer = self.join(token="reader")
        viewer.send_json(type="input", data="stop\r")
        settle(self.clock)
        self.assertEqual(self.rooms.lines, [])

    def test_what_nobody_took(self) -> None:
        """Keys that the PTY did not take begin no line, and are not audited."""
        viewer = self.join()

        def refuse(data: bytes) -> None:
            raise InvalidState("the server does not run")

        took, self.console.type = self.console.type, refuse
        viewer.send_json(type="input", data="sto")
        settle(self.clock)
        self.console.type = took
        viewer.send_json(type="input", data="p\r")
        settle(self.clock)
        self.assertEqual(self.rooms.lines, [("srv_1", "p")])
        rows = [row["data"] for row in self.rooms.bus.named("console.audit") if row["action"] == "command_sent"]
        self.assertEqual(rows, [{"command": "p"}])
