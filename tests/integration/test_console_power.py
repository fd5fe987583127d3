"""Power and typed lines over the WebSocket of the real daemon, with a real container behind it."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.hand_socket import BINARY, HandSocket, frame
from tests.integration.node_process import NodeProcess

ALL = ["console.read", "console.write", *(f"control.{one}" for one in ("start", "stop", "restart", "kill"))]


class PowerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.node.start()
        self.node.create("srv_1", crash={"restart": True, "limit": 3, "window": 600})
        self.session = HandSocket(self.node.port).hello(self.node.token("srv_1", ALL))
        self.addCleanup(self.session.close)
        self.session.until("ready")

    def order(self, action: str) -> list[dict[str, Any]]:
        """Asks, and reads up to the result: the command's events."""
        self.session.say(type="power", action=action)
        told = [self.session.until("command.ack")]
        while told[-1]["type"] != "command.result":
            found = self.session.receive()
            assert found is not None
            if found.opcode == 1 and found.json()["type"] in ("deployment.progress", "command.result"):
                told.append(found.json())
        return told

    def test_power(self) -> None:
        """Stop, start, restart and kill, each with ack, progress and result; the panel hears the same events."""
        for action, status in (("stop", "stopped"), ("start", "running"), ("restart", "running"), ("kill", "stopped")):
            told = self.order(action)
            ack, result = told[0], told[-1]
            self.assertEqual((ack["command"], result["status"]), (f"server.{action}", "succeeded"), result)
            self.assertEqual(result["result"]["status"], status)
            self.assertEqual(result["commandId"], ack["commandId"])
            steps = [event["step"] for event in told[1:-1]]
            self.assertEqual("starting" in steps, action in ("start", "restart"), told)
            self.assertEqual(self.node.result(ack["commandId"]), result)
        rows = self.node.until(
            lambda: len(found := self.node.events("console.audit", action="command_sent")) > 3 and found,
            10,
            "the audit",
        )
        self.assertEqual(
            [row["data"]["command"] for row in rows], ["power:stop", "power:start", "power:restart", "power:kill"]
        )

    def test_typed_stop(self) -> None:
        """EGGS 2: who types the stop command has stopped the server: reason `user`, no crash, no restart."""
        self.session.send(frame(BINARY, b"stop\r"))
        self.session.output(b"bye")
        status = self.session.until("status")
        while status["status"] not in ("stopped", "crashed"):
            status = self.session.until("status")
        self.assertEqual(status["status"], "stopped")
        time.sleep(1)
        last = self.node.until(
            lambda: self.node.events("server.status", status="stopped"), 10, "the server to be stopped"
        )[-1]
        self.assertEqual((last["reason"], last["exitCode"]), ("user", 0))
        self.assertEqual(self.node.events("server.status")[-1], last)
