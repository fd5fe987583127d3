"""Patterns that look around: they find what Python's engine finds, and none of them ever takes long."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.patterns import BadPattern, compile_pattern
from stellarstack.core.position_sets import STEPS_MOST, NotSearchable, OutOfSteps, is_found, parsed
from tests.examples import examples

WORDS = "|".join("".join(letters) for letters in product("ab", repeat=7))
SLOW = f"^(?=a)(?:aab|{WORDS})*!"
EVIL = [
    "(?=(a+)+$)", "(?=(a|aa)*$)", "(?=(a|a?)+$)b", "(?:(?=(a+))+)+b", "(?=a).*.*.*.*.*.*.*.*x", "(?!(.*)*(.*)*=x)y",
    "(?=(((((a+)+)+)+)+)+$)", "(?=(a{1,500}){1,500}b)", "(?=((a*)*)*b)", "(?<!b)(a|b|ab)*c", "(?=(.*a){40})b",
    "(?=([a-z]+)*[0-9])z", r"(?=(\w+\s?)*$)!", "(?!a)(x+x+)+y", "(?=(a?){900}(a){900})b",
    "(?=" * 80 + "a+" + ")+" * 80, "(?=a)" + "(?:" * 150 + "a" + "b?)*" * 150, "(?=a)" + "(a*" * 60 + ")*" * 60 + "b",
    "^(?=a)(?:(?:a?b?){1,500}){1,500}c", "^(?=a)(?:(?:(?:a|bc?)+d?)+e?)+f", "(?i)(?=(à|À|a)*$)é", SLOW,
    "(?=" + "|".join(f"[{first}-z]+" for first in "abcdefgh") + ")*!",
]  # fmt: skip
ATTACK = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from contextlib import suppress
from stellarstack.core.patterns import compile_pattern
from stellarstack.core.position_sets import OutOfSteps
from tests.test_patterns import EVIL
texts = ["a" * 60000 + "!", "x" * 5000, "=" * 5000, "ab" * 2000, "abc xyz " * 600, "".join(map(chr, range(32, 3000)))]
for pattern in EVIL:
    searcher = compile_pattern(pattern)
    for text in texts:
        with suppress(OutOfSteps):
            searcher.search(text)
print("all searched")
"""

_ATOMS = st.sampled_from(["a", "b", "\\n", ".", "[ab]", "[^a]", r"\w", r"\d", r"\s", r"\b", "^", "$", r"\Z", "(?i:B)"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
        st.tuples(st.sampled_from(["(?=", "(?!"]), inner).map(lambda two: f"{two[0]}{two[1]})"),
        st.tuples(st.sampled_from(["(?<=", "(?<!"]), st.sampled_from(["a", "b", "ab", "[ab]"]))
        .map("".join)
        .map("{})".format),
    )


class PositionTests(SynchronousTestCase):
    @examples(40)
    @given(
        st.recursive(_ATOMS, _larger, max_leaves=7),
        st.text("abB1 \n", min_size=1, max_size=7),
        st.sampled_from([0, re.MULTILINE, re.IGNORECASE, re.DOTALL]),
    )
    def test_finds_what_python_finds(self, pattern: str, text: str, flags: int) -> None:
        """On patterns and texts so small that Python's engine ends, both say the same."""
        try:
            wanted = re.search(pattern, text, flags) is not None
        except re.error:
            assume(False)
        self.assertEqual(is_found(parsed(pattern, flags), text), wanted)

    def test_real_rules(self) -> None:
        """Patterns as the authors of eggs write them."""
        for pattern, good, bad in [
            (r"^(?!\s)[\w .-]{1,40}(?<!\s)$", ["my world", "a"], [" a", "a ", ""]),
            (r"^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{8,}$", ["Passw0rdX"], ["password1", "SHORT1"]),
            (r"^((?!\.\.).)*\.jar$", ["server.jar", "a/b.jar"], ["../x.jar", "server.zip"]),
            (r"(?<!not )ready(?= now)", ["it is ready now"], ["it is not ready now", "ready"]),
            (r"(?i)done(?! yet)", ["Done (3.2s)!", "DONE"], ["done yet"]),
        ]:
            for text in good:
                self.assertTrue(compile_pattern(pattern).search(text), (pattern, text))
            for text in bad:
                self.assertFalse(compile_pattern(pattern).search(text), (pattern, text))


MANY = "".join(map(chr, range(0x4E00, 0x4E00 + 1024)))  # characters, each another
LITERALS = "".join(map(chr, range(0x5E00, 0x5E00 + 1900)))
RANGES = "".join(f"{chr(at)}-{chr(at + 2)}" for at in range(0x6E00, 0x6E00 + 600 * 4, 4))


def calls_of(work: Callable[[], object]) -> int:
    """How many functions it calls, those of C included."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        with contextlib.suppress(OutOfSteps):
            work()
    finally:
        sys.setprofile(None)
    return calls


class WorkTests(SynchronousTestCase):
    """What is done is what is charged."""

    def test_wide_class(self) -> None:
        """W19: a class of 1900 characters costs no more on a text of 1024 different ones than one of two."""
        part = parsed(f"(?!x)[{LITERALS}]", 0)
        self.assertLess(calls_of(lambda: is_found(part, MANY)), 10_000)
        self.assertFalse(is_found(part, MANY))
        self.assertTrue(is_found(part, MANY + LITERALS[-1]))

    def test_work_is_charged(self) -> None:
        """W19: ranges, each tried on each character, and empty branches, tried in each round, use up the steps."""
        for pattern, text in [
            (f"(?!x)[{RANGES}]", MANY),
            (f"(?!x)(?i:[{RANGES}])", MANY),
            ("(?!x)(?:" + "|" * 1900 + "){900}", "a"),
            ("(?!x)(?:(?:" + "|" * 900 + "){900}){900}y", "a"),
        ]:
            calls = calls_of(partial(is_found, parsed(pattern, 0), text))
            self.assertLess(calls, 10 * STEPS_MOST, pattern[:20])

    def test_classes_still_mean_the_same(self) -> None:
        """Letters, ranges and categories of one class, in both cases, and their opposite."""
        for pattern, good, bad in [
            (r"(?!x)^[aq-s\d]+$", "aqs7", "b"),
            (r"(?i)(?!x)^[aq-s]+$", "AQS", "B"),
            (r"(?!x)^[^aq-s\d]+$", "bB-", "q"),
            (r"(?i)(?!x)^[^aq-s]+$", "bB7", "R"),
        ]:
            self.assertTrue(is_found(parsed(pattern, 0), good), pattern)
            self.assertFalse(is_found(parsed(pattern, 0), bad), pattern)


class LinearTests(SynchronousTestCase):
    """RE2 takes at worst one step for each byte and each instruction of its program; both together are bounded."""

    def test_large_programs_see_less(self) -> None:
        """W19: of a line an expression of a thousand instructions sees the first half KiB, a usual one all."""
        large = compile_pattern("done|a((a|b){30}){30}c")
        self.assertTrue(large.search("-" * 400 + "done"))
        self.assertFalse(large.search("-" * 4000 + "done"))
        self.assertTrue(compile_pattern(r"Done \([0-9.]+s\)").search("-" * 10_000 + "Done (1.5s)!"))

    def test_bytes_count(self) -> None:
        """W19: a text of wide characters is as long as its bytes."""
        large = compile_pattern("done|a((a|b){30}){30}c")
        self.assertTrue(large.search("\u4e00" * 100 + "done"))
        self.assertFalse(large.search("\u4e00" * 300 + "done"))

    def test_huge_programs(self) -> None:
        """W19: what is too large for RE2 is searched by steps, or refused where that cannot be."""
        self.assertTrue(compile_pattern("^(.{0,30}){0,30}x$").search("ab" * 400 + "x"))
        self.assertFalse(compile_pattern("^(.{0,30}){0,30}x$").search("ab" * 451 + "x"))
        self.assertRaises(BadPattern, compile_pattern, r"\pL{300}x")

    def test_half_a_surrogate_pair(self) -> None:
        """Text that is no Unicode is searched all the same."""
        self.assertTrue(compile_pattern("done").search("\ud800 done"))


class EvilTests(SynchronousTestCase):
    def test_all_of_them_end(self) -> None:
        """W19: patterns and texts made to take for ever are through before a generous limit on CPU time kills them."""
        done = subprocess.run([sys.executable, "-c", ATTACK], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "all searched\n"), done.stderr[-500:])

    @examples(25)
    @given(st.recursive(_ATOMS, _larger, max_leaves=30), st.text("ab\n", max_size=1024))
    def test_steps_are_bounded(self, pattern: str, text: str) -> None:
        """Whatever the pattern: it is read and searched, or broken off, or refused; Python's engine is never asked."""
        with contextlib.suppress(OutOfSteps, NotSearchable, re.error):
            is_found(parsed(pattern, 0), text)

    def test_given_up(self) -> None:
        """A pattern that ran out of steps as often as it may is given up: a flood of such lines costs nothing."""
        evil = compile_pattern(f"{SLOW}|(?=ready)ready", lives=2)
        self.assertTrue(evil.search("ready"))
        for _ in range(2):
            self.assertFalse(evil.search("ab" * 512))
        self.assertFalse(evil.search("ready"))
