"""The claims of a console token, judged once its signature is good (PROTOCOL 1)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.claims import CAN_READ, CAN_WRITE, PERMISSIONS, Claims, expand_permissions, judge_claims
from stellarstack.errors import StellarError, TokenExpired, Unauthorized
from tests.examples import examples

NOW = 1_700_000_000.0
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def body(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "iss": "stellarstack", "sub": "u", "aud": "node_a", "iat": NOW, "exp": NOW + 300, "jti": "j", "serverId": "s",
        "permissions": ["console.read"],
    }  # fmt: skip
    return {**found, **changes}


class Judging(SynchronousTestCase):
    def judge(self, **changes: Any) -> Claims:
        return judge_claims(body(**changes), node_id="node_a", now=NOW)

    def test_good(self) -> None:
        """Good claims are read as they stand."""
        expected = Claims("u", "s", frozenset({"console.read"}), NOW, NOW + 300, "j")
        self.assertEqual(self.judge(), expected)
        self.assertEqual(self.judge(metadata=None, extra=1), expected)

    def test_texts_are_bounded(self) -> None:
        """Names, ids and addresses have their longest; one more is refused."""
        for key, longest in (("sub", 256), ("jti", 128), ("serverId", 64)):
            self.judge(**{key: "x" * longest})
            self.assertRaises(Unauthorized, self.judge, **{key: "x" * (longest + 1)})
        for key, longest in (("username", 256), ("ip", 64)):
            self.judge(metadata={key: "x" * longest})
            self.assertRaises(Unauthorized, self.judge, metadata={key: "x" * (longest + 1)})
            self.assertRaises(Unauthorized, self.judge, metadata={key: ""})

    def test_expiry_comes_last_but_for_the_rest_of_the_times(self) -> None:
        """Expired is said of a token of ours only: with another fault it is unauthorized."""
        self.assertRaises(TokenExpired, self.judge, exp=NOW)
        self.assertRaises(TokenExpired, self.judge, exp=NOW - 1000, iat=NOW - 5000)
        for other in ({"aud": "node_b"}, {"iss": "x"}, {"permissions": 1}, {"jti": 1}, {"metadata": 1}):
            error = self.assertRaises(Unauthorized, self.judge, exp=NOW - 1, **other)
            self.assertNotIsInstance(error, TokenExpired)

    @examples(35)
    @given(st.sampled_from([*sorted(body()), "nbf", "metadata"]), ANY_JSON)
    def test_any_value_in_any_claim(self, claim: str, value: Any) -> None:
        """J06: whatever stands in a claim, it is judged, and nothing else is raised."""
        try:
            found = self.judge(**{claim: value})
        except StellarError as error:
            self.assertIsInstance(error, Unauthorized)
        else:
            self.assertLessEqual(found.expires_at - found.issued_at, 310)
            self.assertLessEqual(found.permissions, PERMISSIONS)


class Permissions(SynchronousTestCase):
    def test_shorthands(self) -> None:
        """canRead and canWrite are what PROTOCOL 1 says, and together no more than both."""
        self.assertEqual(CAN_READ, {"console.read", "stats.read"})
        self.assertEqual(CAN_WRITE, {"console.write"})
        self.assertEqual(expand_permissions({"canRead": True, "canWrite": True}), CAN_READ | CAN_WRITE)

    @examples(35)
    @given(ANY_JSON)
    def test_w16_nothing_unknown_comes_out(self, found: Any) -> None:
        """W16: whatever is asked for, only known permissions come out, or a ValueError."""
        try:
            self.assertLessEqual(expand_permissions(found), PERMISSIONS)
        except ValueError as error:
            self.assertIn("must be", str(error))

    @examples(35)
    @given(st.lists(st.sampled_from(sorted(PERMISSIONS)), max_size=12))
    def test_lists_are_exact(self, names: list[str]) -> None:
        """A list of known names gives these and no other."""
        self.assertEqual(expand_permissions([*names]), set(names))
