"""A real container that floods its console on a real daemon: told, told over, and nobody else the worse for it."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import NodeProcess, Viewer

# Floods for some seconds where it is told to, in a process of its own: the game itself listens all the while.
GAME = """
echo Done
while read -r line; do
  case "$line" in
    flood) (timeout 6 yes a line of a flood; echo; echo THE END) & ;;
    stop) exit 0;;
    *) echo "you said $line";;
  esac
done
"""


class FloodTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.node.start()
        self.node.create("srv_1", GAME)
        self.node.create("srv_2")

    def notice(self, viewer: Viewer, code: str) -> dict[str, object]:
        """Reads until it was told; the output is not kept, it is a flood."""
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            for frame in viewer.frames:
                if frame["type"] == "notice" and frame["code"] == code:
                    return frame
            viewer.output = viewer.output[-1000:]
            viewer.read_once(1.0)
        raise self.failureException(f"no notice {code}; {viewer.frames[-5:]}")

    def test_a_flood(self) -> None:
        """Viewers and panel are told; another console and commands answer meanwhile; the game runs on, and ends it."""
        viewer, other = self.node.console("srv_1"), self.node.console("srv_2")
        for one in (viewer, other):
            self.addCleanup(one.close)
        viewer.until(b"Done")
        other.until(b"Done")
        viewer.type(b"flood\r")
        began = self.notice(viewer, "flood")
        assert isinstance(began["bytesPerSecond"], int)
        self.assertGreater(began["bytesPerSecond"], 2**20)
        other.type(b"are you there\r")
        other.until(b"you said are you there")
        self.node.run("server.command", serverId="srv_2", command="and you")
        other.until(b"you said and you")
        self.assertFalse(any(frame["type"] == "notice" for frame in other.frames))
        over = self.notice(viewer, "flood_over")
        assert isinstance(over["bytes"], int) and isinstance(over["unpublished"], int)
        self.assertGreater(over["bytes"], 3 * 2**20)
        self.assertGreater(over["unpublished"], 1000)
        viewer.type(b"on you go\r")
        viewer.until(b"you said on you go")
        alerts = self.node.until(lambda: self.node.events("node.alert", code="console_flood"), 10, "the alert")
        self.assertEqual([alert["serverId"] for alert in alerts], ["srv_1"])
        self.assertEqual(
            [event["status"] for event in self.node.events("server.status", serverId="srv_1")][-1], "running"
        )
