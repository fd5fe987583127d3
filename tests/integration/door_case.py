"""A real daemon with a talking game behind its doors, for the tests of what comes to them."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.hand_socket import BINARY, RAW, HandSocket, frame
from tests.integration.node_process import NodeProcess

MB = 1 << 20
JSON = "stellarstack.console.v1"

# Says what is typed. `flood N` prints N bytes of lines, `ticks` a line every 50 ms for as long as it lives.
TALKER = r"""
echo loading; echo Done
while read -r line; do
  case "$line" in
    stop) echo bye; exit 0;;
    flood*) yes 'the quick brown fox jumps over the lazy dog' | head -c ${line#flood }; echo; echo 'flood is 'over;;
    ticks) while :; do echo tick; sleep 0.05; done & ;;
    size) stty size;;
    *) echo "you said $line";;
  esac
done
"""


class DoorCase(SynchronousTestCase):
    """One node with srv_1; `config` is added to its daemon.toml, `server` to the section [server]."""

    config = server = ""
    game = TALKER

    def setUp(self) -> None:
        self.node = NodeProcess(extra=self.config)
        self.addCleanup(self.node.close)
        text = self.node.config.read_text()
        self.node.config.write_text(text.replace("[server]\n", f"[server]\n{self.server}"))
        self.node.start()
        self.node.create("srv_1", self.game)
        self.rounds = 0

    def dial(self, **how: Any) -> HandSocket:
        """A connection that says nothing yet."""
        made = HandSocket(self.node.port, **how)
        self.addCleanup(made.close)
        return made

    def enter(self, server_id: str = "srv_1", *, token: str = "", first_frame: bool = False, **how: Any) -> HandSocket:
        """One that has read `ready`. Refused, or AssertionError where it is closed before."""
        token = token or self.node.token(server_id)
        made = self.dial(**{key: how.pop(key) for key in ("timeout", "buffer") if key in how})
        made.hello(None if first_frame else token, **how)
        if first_frame:
            made.say(type="auth", token=token)
        self.ready = made.until("ready")
        return made

    def answers(self, *viewers: HandSocket) -> None:
        """What is typed into these raw consoles is answered by the game."""
        for viewer in viewers:
            self.rounds += 1
            viewer.send(frame(BINARY, b"round %d\r" % self.rounds))
            viewer.output(b"you said round %d\r\n" % self.rounds)

    def assert_grew_less(self, most: int, before: int) -> None:
        """The daemon's memory at its peak, against what it was."""
        grown = self.node.peak() - before
        self.assertLess(grown, most, f"grown by {grown / MB:.1f} MB")


__all__ = ["BINARY", "JSON", "MB", "RAW", "DoorCase"]
