"""Crash policy and known causes."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.crash import CrashPolicy, Ending, backoff, in_window, judge, known_cause


class JudgeTests(SynchronousTestCase):
    def test_clean_exit_is_no_crash(self) -> None:
        """K21: exit code 0 without an OOM kill neither counts as a crash nor restarts."""
        verdict = judge(CrashPolicy(), Ending(0), [], 0.0)
        self.assertFalse(verdict.crashed)
        self.assertIsNone(verdict.restart_after)

    def test_clean_exit_restarts_where_configured(self) -> None:
        """K21: a blueprint may ask for a restart after a clean exit too, which still is no crash."""
        verdict = judge(CrashPolicy(on_clean_exit=True), Ending(0), [], 0.0)
        self.assertFalse(verdict.crashed)
        self.assertEqual(verdict.restart_after, 1.0)

    def test_oom_is_a_crash_whatever_the_code(self) -> None:
        """K20: a server killed for memory crashed, even where its exit code is 0."""
        verdict = judge(CrashPolicy(), Ending(0, oom_killed=True), [], 0.0)
        self.assertTrue(verdict.crashed)
        self.assertEqual(verdict.restart_after, 1.0)

    def test_no_restart_by_policy(self) -> None:
        """K21: with `restart` off the crash is told and nothing starts."""
        verdict = judge(CrashPolicy(restart=False), Ending(1), [], 0.0)
        self.assertTrue(verdict.crashed)
        self.assertIsNone(verdict.restart_after)

    def test_limit_in_window(self) -> None:
        """K20, K21: after `limit` restarts within the window there is no other, after the window there is again."""
        policy = CrashPolicy(limit=3, window=600)
        self.assertEqual(judge(policy, Ending(1), [0, 10], 20).restart_after, 4.0)
        self.assertIsNone(judge(policy, Ending(1), [0, 10, 20], 30).restart_after)
        self.assertEqual(judge(policy, Ending(1), [0, 10, 20], 600).restart_after, 4.0)
        self.assertEqual(in_window(policy, [0, 10, 20], 605), (10, 20))

    @settings(deadline=None)
    @given(st.lists(st.floats(0, 1e9)), st.floats(0, 1e9))
    def test_never_more_than_the_limit(self, history: list[float], now: float) -> None:
        """K21: whatever happened before, no more than `limit` restarts fall into one window."""
        verdict = judge(CrashPolicy(limit=3, window=600), Ending(137), history, now)
        self.assertEqual(verdict.restart_after is None, len([t for t in history if now - t < 600]) >= 3)

    def test_backoff_doubles_and_ends(self) -> None:
        """The wait doubles from one second to a minute."""
        self.assertEqual([backoff(n) for n in (0, 1, 2, 5, 6, 7, 1000)], [1, 2, 4, 32, 60, 60, 60])


class KnownCauseTests(SynchronousTestCase):
    def test_causes(self) -> None:
        """The newest telling line names the cause and what mends it."""
        for line, code in [
            ("**** FAILED TO BIND TO PORT!", "port_in_use"),
            ("Error: listen EADDRINUSE: address already in use :::25565", "port_in_use"),
            ("You need to agree to the EULA in order to run the server. Go to eula.txt for more info.", "eula"),
            ("java.lang.UnsupportedClassVersionError: a has been compiled by a more recent version", "wrong_java"),
            ("Unsupported Java detected (52.0). Only up to Java 17 is supported.", "wrong_java"),
            ("tar: write error: No space left on device", "no_space"),
            ("java.lang.OutOfMemoryError: Java heap space", "out_of_memory"),
            ("bash: fork: retry: Resource temporarily unavailable", "pid_limit"),
            ("Error: Unable to access jarfile server.jar", "missing_program"),
            ("exec /game: exec format error", "wrong_architecture"),
        ]:
            cause = known_cause(["starting", line, "bye"])
            self.assertEqual(cause and cause.code, code, line)
            self.assertTrue(cause and cause.hint)

    def test_oom_comes_first(self) -> None:
        """K20: the kernel's word counts for more than any line."""
        cause = known_cause(["address already in use"], oom_killed=True)
        self.assertEqual(cause and cause.code, "oom")

    def test_exit_code_127(self) -> None:
        """A shell that found no program says so by its code alone."""
        cause = known_cause([], exit_code=127)
        self.assertEqual(cause and cause.code, "missing_program")

    def test_unknown(self) -> None:
        """Where nothing is known, nothing is said."""
        self.assertIsNone(known_cause(["all good", "x" * 100_000], exit_code=1))
