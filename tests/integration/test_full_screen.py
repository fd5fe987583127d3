"""Full-screen programs in `stellarctl console` and in OpenSSH's client alike, as their user sees them (issue 4).

Each client runs on a pseudo-terminal whose other end is a terminal emulator: what is judged stands on its screen, and
it answers what it is asked as a terminal does.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyte

from tests.games.images import MINETEST, ensure_game_images
from tests.integration.node_process import CHECKOUT, blueprint
from tests.integration.test_ctl_daemon import CTL, docker_missing
from tests.integration.test_ssh import SshNodeCase

DEADLINE = 60.0
# A shell: full-screen programs, one that waits for Ctrl-C, one that asks the terminal as programs do.
SHELL = r"""
trap : INT; n=0; while [ $n -lt 90 ]; do n=$((n+1)); echo "row $n"; done >/tmp/rows
echo Done
while read -r word rest; do
  case "$word" in
    vi) vi "/data/$rest"; echo "vi has ended";;
    less) less /tmp/rows; echo "less has ended";;
    cat) cat "/data/$rest";;
    wait) sh -c 'trap "echo interrupted; exit 7" INT; echo waiting; while :; do sleep 0.1; done'; echo "ended $?";;
    ask) printf '\033[6n\033[c\033[5n\033]11;?\302\234asked\n';;
    say) echo "said $rest";;
    stop) exit 0;;
  esac
done
"""
# A game with a screen of its own. TERM is that of the emulator, which knows no more than Linux' console.
MINETEST_SCRIPT = """
echo "name = boss" >/tmp/minetest.conf; echo Done
TERM=linux exec minetestserver --terminal --gameid minetest_game --world /data/world \\
  --config /tmp/minetest.conf --logfile /tmp/log
"""
BACKGROUND = b"\x1b]11;?\xc2\x9c"  # a question that this emulator does not answer, with the long form of its end
ANSWERS = re.compile(rb"\x1b\[\d+;\d+R\x1b\[\?6c\x1b\[0n")


class _Emulator(pyte.Screen):
    """Answers questions; `answered` is what it typed."""

    def __init__(self, columns: int, rows: int, keys: int) -> None:
        super().__init__(columns, rows)
        self.answered = b""
        self._keys = keys

    def draw(self, data: str) -> None:
        """CAN shows nothing; pyte would leave out all that follows it."""
        super().draw(data.replace("\x18", ""))

    def write_process_input(self, data: str) -> None:
        self.answered += data.encode()
        os.write(self._keys, data.encode())


class Window:
    """A client in a window of so many rows and columns."""

    def __init__(self, command: Sequence[str], environ: dict[str, str], rows: int, columns: int) -> None:
        self._near, far = pty.openpty()
        termios.tcsetwinsize(far, (rows, columns))
        self.emulator = _Emulator(columns, rows, self._near)
        self._stream = pyte.ByteStream(self.emulator)
        self.shown = b""
        self.process = subprocess.Popen(
            command, stdin=far, stdout=far, stderr=far, env=environ, cwd=CHECKOUT, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(far)

    @property
    def rows(self) -> list[str]:
        """What stands on the screen."""
        return [row.rstrip() for row in self.emulator.display]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    @property
    def last(self) -> str:
        return self.rows[-1]

    def until(self, holds: Callable[[], Any], what: str) -> None:
        """Shows what comes until `holds`."""
        deadline = time.monotonic() + DEADLINE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"never: {what}; the screen is\n{self.text}")
            self._show(0.05)

    def _show(self, timeout: float) -> None:
        if select.select([self._near], [], [], timeout)[0]:
            try:
                piece = os.read(self._near, 65536)
            except OSError:  # the client has gone, and its status comes
                return
            self.shown += piece
            self._stream.feed(piece)

    def shows(self, text: str) -> None:
        self.until(lambda: text in self.text, repr(text))

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """As a person who pulls at the window: the kernel sends SIGWINCH."""
        self.emulator.resize(rows, columns)
        termios.tcsetwinsize(self._near, (rows, columns))

    def ends(self) -> int:
        """Its exit status."""
        self.until(lambda: self.process.poll() is not None, "the client ends")
        return self.process.wait()

    def shut(self) -> None:
        """The window is closed: its client hears SIGHUP."""
        os.close(self._near)
        self._near = -1
        self.process.wait(DEADLINE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self._near >= 0:
            os.close(self._near)


class _FullScreen(SshNodeCase):
    """What holds for each client; how it is started and left is the subclass's."""

    skip = docker_missing()
    ways: Sequence[tuple[str, int]]  # keys by which one leaves, and the exit status then

    def setUp(self) -> None:
        super().setUp()
        self.server = f"{type(self).__name__}.{self._testMethodName}"

    def run_server(self, image: str, script: str, memory: int) -> None:
        made = {"serverId": self.server, "blueprint": blueprint(image, script), "config": {"memory": memory}}
        self.node.run("server.create", **made)
        self.addCleanup(self.node.run, "server.delete", serverId=self.server)

    def client(self) -> tuple[Sequence[str], dict[str, str]]:
        """Its command and environment."""
        raise NotImplementedError

    def shell(self, rows: int = 24, columns: int = 80) -> Window:
        """A client in a shell that is new."""
        self.run_server(self.node.image, SHELL, 32)
        return self.window(rows, columns)

    def window(self, rows: int = 24, columns: int = 80) -> Window:
        """A client that is in."""
        found = Window(*self.client(), rows, columns)
        self.addCleanup(found.close)
        found.until(lambda: b"Ctrl-] leaves" in found.shown or found.process.poll() is not None, "the client is in")
        self.assertIsNone(found.process.poll(), found.text)
        return found

    def vi_fills(self, window: Window, line: str) -> None:
        """vi has drawn the screen as large as it is: its file's one line, a `~` a row, its status in the last."""
        rows = window.emulator.lines
        whole = [line, *["~"] * (rows - 2)]
        window.until(lambda: window.rows[:-1] == whole and "note" in window.last, f"vi on {rows} rows")

    def test_vi(self) -> None:
        """vi draws at the window's size and anew at each other one, is typed into and interrupted.

        It runs on when its viewer leaves, by whatever way; who comes back has it on the screen with the first new size,
        or with Ctrl-L.
        """
        window = self.shell()
        window.type("vi note\r")
        self.vi_fills(window, "")
        window.type("ihello")
        window.until(lambda: window.rows[0] == "hello" and window.last.startswith("I"), "what was typed")
        for rows, columns in ((30, 100), (15, 50)):
            window.resize(rows, columns)
            self.vi_fills(window, "hello")
        window.type("\x03")
        window.until(lambda: window.last.startswith("-"), "Ctrl-C ends vi's insert mode")
        self.assertIsNone(window.process.poll())
        for rows, (keys, status) in enumerate(self.ways, 18):
            window.type(keys)
            self.assertEqual(window.ends(), status)
            window = self.window(rows, 70)
            self.vi_fills(window, "hello")
        rows = window.emulator.lines
        window.shut()
        window = self.window(rows, 70)
        window.shows("hello")
        window.emulator.reset()
        window.type("\x0c")
        self.vi_fills(window, "hello")
        window.type(":wq\r")
        window.shows("vi has ended")
        window.type("cat note\r")
        window.shows("cat note\nhello\n")

    def test_less(self) -> None:
        """A pager knows how many rows there are, follows a new size, and its keys page."""
        window = self.shell(20, 60)
        window.type("less\r")
        window.until(lambda: window.rows[0] == "row 1" and window.rows[-2] == "row 19", "the first page")
        window.type(" ")
        window.until(lambda: window.rows[0] == "row 20" and window.rows[-2] == "row 38", "the second page")
        window.resize(32, 90)
        window.until(lambda: window.rows[0] == "row 20" and window.rows[-2] == "row 50", "a larger page")
        window.type("q")
        window.shows("less has ended")

    def test_minetest(self) -> None:
        """A game that fills the screen: its line at the top, its prompt in the last row, Ctrl-C ends it as it likes."""
        ensure_game_images()
        self.run_server(MINETEST, MINETEST_SCRIPT, 512)
        window = self.window(22, 90)

        def drawn() -> bool:
            return "Game" in window.rows[0] and window.last == "]"

        window.until(drawn, "the game's screen")
        window.type("/help\r")
        window.shows("Available commands")
        for rows, columns in ((14, 60), (30, 100)):
            window.resize(rows, columns)
            window.until(drawn, f"the game's screen of {rows} rows")
            window.shows("Available commands")
        window.shut()
        window = self.window(20, 70)
        window.until(drawn, "the game's screen for who comes back")
        window.type("\x03")
        window.shows(" is stopped")
        self.assertIsNone(window.process.poll())
        # with 0, not with 130: it took the key as it likes to
        self.node.until(
            lambda: self.node.events("server.status", serverId=self.server, status="stopped", exitCode=0), 10, "its end"
        )

    def test_interrupt(self) -> None:
        """Ctrl-C is a SIGINT for the program in the container, and nothing to the client."""
        window = self.shell()
        window.type("wait\r")
        window.shows("\nwaiting")
        window.type("\x03")
        window.shows("interrupted\nended 7")
        window.type("say on\r")
        window.shows("\nsaid on")
        self.assertIsNone(window.process.poll())

    def test_old_questions(self) -> None:
        """What a program asks the terminal is answered by who watches, and by nobody who only sees it later."""
        window = self.shell()
        window.type("ask\r")
        window.until(lambda: ANSWERS.fullmatch(window.emulator.answered), "the answers")
        window.shows("asked")
        self.assertIn(BACKGROUND, window.shown)
        window.shut()
        window = self.window()
        window.type("\x15say later\r")  # what was answered stands in the line that the shell reads: it is cleared
        window.shows("\nsaid later")
        self.assertIn("asked\n", window.text)
        self.assertEqual(window.emulator.answered, b"")
        self.assertNotIn(BACKGROUND, window.shown)
        window.type("ask\r")
        window.until(lambda: ANSWERS.fullmatch(window.emulator.answered), "the answers")


class StellarctlTests(_FullScreen):
    """`stellarctl console`."""

    ways = [("\x1d", 0)]

    def client(self) -> tuple[Sequence[str], dict[str, str]]:
        command = [sys.executable, "-c", CTL, "-c", str(self.node.config), "console", self.server]
        return command, {**os.environ, "TERM": "xterm"}


class OpenSshTests(_FullScreen):
    """`ssh`, as Debian has it."""

    ways = [("\x1d", 0), ("\r~.", 255)]

    def client(self) -> tuple[Sequence[str], dict[str, str]]:
        token = self.node.token(self.server)
        return self.command("127.0.0.1", login=f"user_1.{self.server}"), self.environ(token)


del _FullScreen  # has no client of its own, so there is nothing to run
