"""Half typed lines: a stop command typed after one must not be glued to it."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.open_line import OpenLine
from tests.examples import examples
from tests.fake_container import Terminal


class OpenLineTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """What was typed since the last Enter, less what was erased, is an open line."""
        for keys, is_open in [
            (b"", False),
            (b"say hi", True),
            (b"say hi\r", False),
            (b"say hi\r\n", False),
            (b"say\rhi", True),
            (b"ab\x7f\x7f", False),
            (b"ab\b", True),
            (b"\x7f", False),
            (b"\x7fa", True),
            ("é".encode() + b"\x7f", True),
            (b"say\x03", False),
            (b"say\x15", False),
            (b"say\x15a", True),
            (b"\x1b[A", True),
        ]:
            with self.subTest(keys=keys):
                line = OpenLine()
                line.feed(keys)
                self.assertEqual(line.open, is_open)
                self.assertEqual(line.keys("stop"), b"\x15stop\r" if is_open else b"stop\r")

    def test_unknown(self) -> None:
        """After a restart of the daemon nobody knows what was typed before: erasing proves nothing, Enter does."""
        line = OpenLine(unknown=True)
        self.assertTrue(line.open)
        line.feed(b"a\x7f\x7f\x7f")
        self.assertTrue(line.open)
        line.feed(b"\r")
        self.assertFalse(line.open)

    @examples(30)
    @given(st.lists(st.binary(max_size=12) | st.sampled_from([b"\x7f", b"\x15", b"\x03", b"\r"]), max_size=6))
    def test_the_terminal_gets_the_line_whole(self, pieces: list[bytes]) -> None:
        """Whatever was typed before, in whatever pieces: the terminal enters exactly the line."""
        line, terminal = OpenLine(), Terminal()
        for piece in pieces:
            line.feed(piece)
            terminal.feed(piece)
        entered = [text for _, text, _ in terminal.feed(line.keys("stop")) if text is not None]
        self.assertEqual(entered, ["stop"])
