"""The rules vocabulary of variables."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.rules import broken_rule, split_rules
from tests.test_patterns import SLOW

ROWS: list[tuple[str, list[str], list[str]]] = [
    ("required|string|max:5", ["a", "12345", "äöü€x"], ["", "   ", "123456"]),
    ("nullable|string|max:5", ["", "12345"], ["123456"]),
    ("string|in:true,false", ["", "true"], ["True", "x"]),
    ("required|string|in:,Moon,Mars", ["Moon"], ["", "Sun"]),
    ("in:,Moon,Small Town", ["", "Small Town", "Moon"], ["Town"]),
    ('in:"a,b",c', ["a,b", "c"], ["a", "b"]),
    ("not_in:a,b", ["c"], ["a"]),
    ("required|numeric|min:0", ["0", "1.5", "1e3", ".5"], ["-1", "x", "1,5"]),
    ("required|integer|between:1,256", ["1", "256", " 32"], ["0", "257", "1.5", "abc", "007"]),
    ("required|int|max:10", ["10", "-5"], ["11", "ten"]),
    ("string|min:0|max:65535", ["15", "99999"], []),
    ("string|between:2,3", ["ab", "abc"], ["a", "abcd"]),
    ("alpha_num|between:1,6", ["latest", "1"], ["1.20", "toolong1"]),
    ("size:3", ["abc"], ["ab", "abcd"]),
    ("numeric|size:3", ["3", "3.0"], ["4", "abc"]),
    ("required|boolean", ["0", "1", "true", "False"], ["2", "yes"]),
    ("digits_between:1,5", ["1", "65535"], ["655350", "-1", "1.0", "a"]),
    ("digits:4", ["2024", "0001"], ["202", "20245", "20a4"]),
    ("min_digits:2", ["12"], ["1"]),
    ("max_digits:2", ["12"], ["123"]),
    ("integer|gt:0", ["1"], ["0", "-1"]),
    ("integer|gte:3|lte:5|lt:5", ["3", "4"], ["2", "5", "6"]),
    ("multiple_of:5", ["10"], ["11", "x"]),
    ("alpha_dash", ["a-b_c9", "ü"], ["a b", "a.b"]),
    ("alpha", ["abc"], ["abc1"]),
    (
        "url",
        ["http://pterodactyl.io", "https://a.b/c?d=e#f", "ftp://x"],
        ["pterodactyl.io", "http://", "http://a b", "/x"],
    ),
    ("ip", ["1.2.3.4", "::1"], ["1.2.3", "x"]),
    ("ipv4", ["1.2.3.4"], ["::1"]),
    ("ipv6", ["::1"], ["1.2.3.4"]),
    ("email", ["a@b.c"], ["a@", "a b@c"]),
    ("json", ['{"a": 1}', "[]"], ["{"]),
    ("uuid", ["9b7d6a9c-1a83-4f4e-9d9a-9a2b0a5a8f11"], ["9b7d"]),
    ("starts_with:ab,cd", ["abx", "cdx"], ["x"]),
    ("ends_with:.jar", ["a.jar"], ["a.zip"]),
    ("lowercase", ["ab"], ["aB"]),
    ("uppercase", ["AB"], ["aB"]),
    ("ascii", ["ab"], ["ä"]),
    ("accepted", ["yes", "1"], ["no", ""]),
    ("filled", ["x"], [""]),
    ("present|string", ["", "x"], []),
    (r"required|regex:/^([\w\d._-]+)(\.jar)$/", ["server.jar", "a-b_c.1.jar"], ["server.zip", "a b.jar", ""]),
    (r"required|regex:/^[\w.-]*$/|max:6", ["a.b-c"], ["a b", "toolong"]),
    ("regex:([a-z-0-9]+$)", ["abc-9"], ["ABC!"]),
    ("regex:/^(a|b)$/|max:3", ["a", "b"], ["c"]),
    ("regex:/^ab$/i", ["AB"], ["x"]),
    ("regex:~^https?://~", ["http://x"], ["x"]),
    (r"not_regex:/\s/", ["ab"], ["a b"]),
    ("regex:/^(?!con$).*/", ["abc"], ["con"]),
]


class RuleTests(SynchronousTestCase):
    def test_rows(self) -> None:
        """Each rule takes what a panel takes and refuses what a panel refuses, and is named as written."""
        for text, good, bad in ROWS:
            rules = split_rules(text)
            for value in good:
                self.assertIsNone(broken_rule(rules, value), f"{text} <- {value!r}")
            for value in bad:
                self.assertIn(broken_rule(rules, value), rules, f"{text} <- {value!r}")

    def test_unknown_and_senseless_rules_refuse_nothing(self) -> None:
        """What a panel alone can judge, or nobody can read, is passed over."""
        for text in [
            "sometimes",
            "required_if:a,b",
            "max:many",
            "between:1",
            "gt:other_field",
            "regex:/(/",
            "",
            "|",
            "max:",
        ]:
            self.assertIsNone(broken_rule(split_rules(text), "value"), text)

    def test_splitting(self) -> None:
        """Rules come as one string or as a list; empty ones vanish, and a regex keeps its own bars."""
        self.assertEqual(split_rules("required|string|"), ("required", "string"))
        self.assertEqual(split_rules(["required", "max:3|min:1"]), ("required", "max:3", "min:1"))
        self.assertEqual(split_rules(None), ())
        self.assertEqual(split_rules("regex:/^(a|b|c)$/|max:80"), ("regex:/^(a|b|c)$/", "max:80"))
        self.assertEqual(split_rules("regex:/unfinished|max:80"), ("regex:/unfinished", "max:80"))
        self.assertEqual(split_rules(r"regex:/a\/|b/|max:1"), (r"regex:/a\/|b/", "max:1"))

    def test_catastrophic_rule_ends(self) -> None:
        """W19: an egg's expression cannot hang the daemon on a tenant's value."""
        self.assertEqual(broken_rule(["regex:/^(a+)+$/"], "a" * 5000 + "!"), "regex:/^(a+)+$/")

    def test_too_long_to_be_searched(self) -> None:
        """W19: of a value that is not looked at to its end nothing slips through, whichever way the rule asks."""
        for rule in ("regex:/^(?!x)[a-z]+$/", "not_regex:/(?<!x)[^a-z]/", "regex:/^.{1,900}$|^[a-z]*$/"):
            self.assertIsNone(broken_rule([rule], "a" * 500), rule)
            self.assertEqual(broken_rule([rule], "a" * 1100 + "! rm -rf"), rule)

    def test_out_of_steps(self) -> None:
        """W19: nor does a value slip through whose search was broken off."""
        for rule in (f"regex:/{SLOW}/", f"not_regex:/{SLOW}/"):
            self.assertEqual(broken_rule([rule], "ab" * 510 + "!"), rule)

    def test_names_in_any_script(self) -> None:
        """A class of all letters, 32 times, makes a program of 40 000 instructions; names of that length are judged."""
        rule = r"regex:/^[\pL\pN _-]{3,32}$/u"
        for name in ("Kingdom of the North", "Северное королевство", "\u4e00" * 32):
            self.assertIsNone(broken_rule([rule], name), name)
        for name in ("no", "a" * 33, "a;b;c"):
            self.assertEqual(broken_rule([rule], name), rule, name)

    @settings(deadline=None)
    @given(st.text(max_size=40), st.text(max_size=40))
    def test_never_raises(self, rules: str, value: str) -> None:
        """No rule and no value, however odd, is more than accepted or refused."""
        broken = broken_rule(split_rules(rules), value)
        self.assertTrue(broken is None or broken in split_rules(rules))

    @settings(deadline=None)
    @given(st.sampled_from([row[0] for row in ROWS]), st.text(max_size=60))
    def test_known_rules_never_raise(self, rules: str, value: str) -> None:
        """The known rules judge any text."""
        broken = broken_rule(split_rules(rules), value)
        self.assertTrue(broken is None or broken in split_rules(rules))
