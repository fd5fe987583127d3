"""The words by which servers are stopped, and the steps that follow from them."""

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.stop import (
    ConsoleLine,
    ControlByte,
    Signal,
    StopKind,
    StopMethod,
    Wait,
    parse_stop,
    stop_steps,
)

END = (Signal("SIGTERM"), Wait(5.0), Signal("SIGKILL"))


class ParseTests(SynchronousTestCase):
    def test_egg_words(self) -> None:
        """Every stop word of EGGS.md is read as its author meant it."""
        for word, kind, value in [
            ("stop", StopKind.COMMAND, "stop"),
            ("/shutdown", StopKind.COMMAND, "/shutdown"),
            ("shutdown; exit;", StopKind.COMMAND, "shutdown; exit;"),
            (
                "/shutdown 3 SIGTERM Server shutting down...",
                StopKind.COMMAND,
                "/shutdown 3 SIGTERM Server shutting down...",
            ),
            ("SIGTERM", StopKind.COMMAND, "SIGTERM"),
            ("QUIT", StopKind.COMMAND, "QUIT"),
            ("^C", StopKind.CONTROL, "C"),
            ("^^C", StopKind.CONTROL, "C"),
            ("^c", StopKind.CONTROL, "C"),
            ("^X", StopKind.CONTROL, "X"),
            ("^SIGINT", StopKind.SIGNAL, "SIGINT"),
            ("^term", StopKind.SIGNAL, "SIGTERM"),
            ("^SIGABRT", StopKind.SIGNAL, "SIGABRT"),
            ("^KILL", StopKind.SIGNAL, "SIGKILL"),
            ("^nonsense", StopKind.SIGNAL, "SIGTERM"),
            ("^", StopKind.SIGNAL, "SIGTERM"),
            ("", StopKind.SIGNAL, "SIGTERM"),
        ]:
            self.assertEqual(parse_stop(word, egg=True), StopMethod(kind, value), word)

    def test_native_signal_names(self) -> None:
        """In a native blueprint a signal's full name is a signal, and its short name a console command."""
        self.assertEqual(parse_stop("SIGQUIT", egg=False), StopMethod(StopKind.SIGNAL, "SIGQUIT"))
        self.assertEqual(parse_stop("QUIT", egg=False), StopMethod(StopKind.COMMAND, "QUIT"))
        self.assertEqual(parse_stop("SIGNIFY", egg=False), StopMethod(StopKind.COMMAND, "SIGNIFY"))

    def test_signal_for_the_container(self) -> None:
        """The container's own stop signal says the same as the word."""
        self.assertEqual(parse_stop("^C", egg=True).signal, "SIGINT")
        self.assertEqual(parse_stop("stop", egg=True).signal, "SIGTERM")
        self.assertEqual(parse_stop("SIGQUIT", egg=False).signal, "SIGQUIT")

    def test_typed_stop_is_noticed(self) -> None:
        """Who types the stop command has stopped the server; other lines and other methods are nothing of the kind."""
        self.assertTrue(parse_stop("stop", egg=True).is_typed(" stop "))
        self.assertFalse(parse_stop("stop", egg=True).is_typed("stop now"))
        self.assertFalse(parse_stop("^C", egg=True).is_typed("^C"))
        self.assertFalse(StopMethod(StopKind.COMMAND, " ").is_typed(""))


class StepTests(SynchronousTestCase):
    def test_command(self) -> None:
        """A console command is typed once, then come SIGTERM at the timeout and SIGKILL five seconds later."""
        steps = stop_steps(parse_stop("stop", egg=True), 30)
        self.assertEqual(steps, (ConsoleLine("stop"), Wait(30), *END))

    def test_interrupt(self) -> None:
        """Ctrl-C goes into the terminal and after two seconds as SIGINT to the container, within the one timeout."""
        steps = stop_steps(parse_stop("^^C", egg=True), 30)
        self.assertEqual(steps, (ControlByte(b"\x03"), Wait(2.0), Signal("SIGINT"), Wait(28.0), *END))

    def test_short_interrupt(self) -> None:
        """Within two seconds there is no time for the SIGINT."""
        self.assertEqual(stop_steps(parse_stop("^C", egg=True), 1.5), (ControlByte(b"\x03"), Wait(1.5), *END))

    def test_other_control_key(self) -> None:
        """^X presses Ctrl-X."""
        self.assertEqual(stop_steps(parse_stop("^X", egg=True), 30)[0], ControlByte(b"\x18"))

    def test_signal(self) -> None:
        """A signal is sent first and escalates like all else."""
        self.assertEqual(stop_steps(parse_stop("SIGQUIT", egg=False), 10), (Signal("SIGQUIT"), Wait(10), *END))

    def test_kill_at_once(self) -> None:
        """A timeout of 0, and a blueprint that says SIGKILL, kill without a word."""
        self.assertEqual(stop_steps(parse_stop("stop", egg=True), 0), (Signal("SIGKILL"),))
        self.assertEqual(stop_steps(parse_stop("^KILL", egg=True), 30), (Signal("SIGKILL"),))
