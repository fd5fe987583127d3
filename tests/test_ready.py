"""Ready checks by log, and expressions that must never hang the daemon."""

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.patterns import BadPattern, compile_pattern
from stellarstack.core.ready import LinePattern, ReadyMatcher, egg_pattern


class EggPatternTests(SynchronousTestCase):
    def test_substring(self) -> None:
        """An egg's text is found anywhere in a line, in its own case, and is no expression."""
        matcher = ReadyMatcher([egg_pattern(")! For help, type ")])
        self.assertTrue(matcher.matches('[Server thread/INFO]: Done (0.276s)! For help, type "help"'))
        self.assertFalse(matcher.matches("Done (0.276s)! for help, type"))

    def test_empty_matches_the_first_line(self) -> None:
        """The empty text is in every line."""
        self.assertTrue(ReadyMatcher([egg_pattern("")]).matches("anything"))

    def test_regex_prefix(self) -> None:
        """`regex:` makes an unanchored expression; alone, or with a broken one, it is a plain text."""
        matcher = ReadyMatcher([egg_pattern(r"regex:Done \([0-9.]+s\)")])
        self.assertTrue(matcher.matches("x Done (1.5s)! y"))
        self.assertFalse(matcher.matches("regex:Done"))
        self.assertTrue(ReadyMatcher([egg_pattern("regex:")]).matches("a regex: b"))
        self.assertTrue(ReadyMatcher([egg_pattern("regex:(")]).matches("a regex:( b"))

    def test_any_of_several(self) -> None:
        """One of several patterns is enough; without any nothing is ever ready."""
        matcher = ReadyMatcher([LinePattern("one"), LinePattern("^two$", regex=True)])
        self.assertEqual([matcher.matches(line) for line in ("xonex", "two", "two!", "")], [True, True, False, False])
        self.assertFalse(ReadyMatcher([]).matches(""))

    def test_placeholder_texts_never_match(self) -> None:
        """A generic egg's `change this text 1` leaves the server starting."""
        self.assertFalse(ReadyMatcher([egg_pattern("change this text 1")]).matches("Server started"))

    def test_several_share_the_work(self) -> None:
        """W19: many large expressions cost a line no more than one does; each sees less of it."""
        large = "a((a|b){30}){30}c"
        alone = ReadyMatcher([LinePattern(f"done|{large}", regex=True)])
        several = ReadyMatcher([LinePattern(f"done|{large}{number}", regex=True) for number in range(4)])
        for place, found in ((50, (True, True)), (300, (True, False)), (3000, (False, False))):
            line = "-" * place + "done"
            self.assertEqual((alone.matches(line), several.matches(line)), found, place)

    def test_accepted_is_searched(self) -> None:
        """What an egg's list is read as can be searched: one too large for its share is a plain text."""
        texts = [rf"regex:\pL{{5}}{number}" for number in range(16)]
        self.assertTrue(egg_pattern(texts[0]).regex)
        self.assertTrue(ReadyMatcher([egg_pattern(text, len(texts)) for text in texts]).matches(texts[3]))

    def test_long_lines_are_cut(self) -> None:
        """Only the first 64 KiB of a line are searched."""
        self.assertFalse(ReadyMatcher([LinePattern("end")]).matches("x" * 65536 + "end"))


class PatternTests(SynchronousTestCase):
    def test_catastrophic_pattern_ends(self) -> None:
        """W19: an expression that would keep Python's engine busy for years answers on a line made for it."""
        self.assertFalse(compile_pattern("^(a+)+$").search("a" * 60000 + "!"))
        self.assertFalse(compile_pattern("(.*)*(.*)*(.*)*=x").search("=" * 20000))

    def test_lookaround_is_read(self) -> None:
        """What RE2 does not know is still read where it is harmless."""
        pattern = compile_pattern("(?<!not )ready(?= now)")
        self.assertTrue(pattern.search("it is ready now"))
        self.assertFalse(pattern.search("it is not ready now"))

    def test_back_references_are_refused(self) -> None:
        """W19: what no engine that is sure to end can do is refused."""
        for text in [r"(a*)*\1", "(?=a)(?P<x>b)(?P=x)", "(?>a+)(?=b)", "(?=a)a*+b", "(?=a)(b)?(?(1)c|d)"]:
            self.assertRaises(BadPattern, compile_pattern, text)

    def test_unreadable_and_oversized(self) -> None:
        """What is no expression, or over 2000 characters, is refused."""
        for text in ["(", "[z-a]", "a" * 2001, "*", "(" * 500]:
            self.assertRaises(BadPattern, compile_pattern, text)

    def test_flags(self) -> None:
        """Case and line anchors follow the flags, for both engines."""
        self.assertTrue(compile_pattern("DONE", ignore_case=True).search("done"))
        self.assertTrue(compile_pattern("(?=d)DONE", ignore_case=True).search("done"))
        self.assertTrue(compile_pattern("^b", multiline=True).search("a\nb"))
