"""What redis.url may say, and that a refusal never shows a password."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.redis_url import Address, RedisKind, RedisUrl, parse_redis_url, unix_url
from stellarstack.errors import ConfigError
from tests.examples import examples

SECRET = "hunter2"
GOOD = {
    "embedded": RedisUrl(RedisKind.EMBEDDED),
    "redis://h": RedisUrl(RedisKind.TCP, addresses=(Address("h", 6379),)),
    "redis://h/": RedisUrl(RedisKind.TCP, addresses=(Address("h", 6379),)),
    "redis://10.0.0.1:7000/3": RedisUrl(RedisKind.TCP, addresses=(Address("10.0.0.1", 7000),), db=3),
    "redis://h?db=2": RedisUrl(RedisKind.TCP, addresses=(Address("h", 6379),), db=2),
    "rediss://[::1]:7000": RedisUrl(RedisKind.TCP, True, (Address("::1", 7000),)),
    "rediss://[2001:db8::1]": RedisUrl(RedisKind.TCP, True, (Address("2001:db8::1", 6379),)),
    "redis://u:p%40%3A@h": RedisUrl(RedisKind.TCP, addresses=(Address("h", 6379),), username="u", password="p@:"),
    "redis://:pw+1@h": RedisUrl(RedisKind.TCP, addresses=(Address("h", 6379),), password="pw+1"),
    "redis://u:a:b@h": RedisUrl(RedisKind.TCP, addresses=(Address("h", 6379),), username="u", password="a:b"),
    "unix:///run/r.sock": RedisUrl(RedisKind.UNIX, path="/run/r.sock"),
    "unix://u:pw@/run/a%20b?db=1": RedisUrl(RedisKind.UNIX, path="/run/a b", username="u", password="pw", db=1),
    "redis+sentinel://a,b:1/games": RedisUrl(
        RedisKind.SENTINEL, addresses=(Address("a", 26379), Address("b", 1)), service="games"
    ),
    "rediss+sentinel://u:pw@a,[::1]:5/g?sentinel_password=s%26+&db=4": RedisUrl(
        RedisKind.SENTINEL, True, (Address("a", 26379), Address("::1", 5)), service="g",
        username="u", password="pw", sentinel_password="s&+", db=4,
    ),
}  # fmt: skip
BAD = [
    "", "redis", "embedded ", "localhost:6379", "http://h", "redis:h", f"redis://{SECRET}@h", "redis://u:@h", "redis://",
    "redis://:6379", "redis://h:", "redis://h:0", "redis://h:65536", "redis://h:6379x", "redis://h:٣", "redis://h/x",
    "redis://h/-1", "redis://h/1/2", "redis://h/999999", "redis://h?db=1&db=2", "redis://h/1?db=1", "redis://h?db=",
    f"redis://h?password={SECRET}", f"redis://u:{SECRET}%zz@h", f"redis://u:{SECRET}/x@h", f"redis://u:{SECRET}@x@h",
    f"redis://u:{SECRET} @h", f"redis://u:{SECRET}#@h", f"redis://u:{SECRET}%ff@h", f"redis://u:{SECRET}?@h",
    "redis://[::1", "redis://[::1]x", "redis://[zz]", "redis://[127.0.0.1]", "redis://::1", "redis://h_-/", "redis://a,b",
    "unix://run/r.sock", "unix://", "unix:///", "unix:///x?y=1", "redis+sentinel://a", "redis+sentinel://a/", "redis://h\n",
    "redis+sentinel://a,/g", "redis+sentinel:///g", "redis+sentinel://a/g/0", f"redis://h?sentinel_password={SECRET}",
    f"redis+sentinel://a/g?sentinel_password={SECRET}%", "unix:///a%zz",
]  # fmt: skip


class RedisUrlTests(SynchronousTestCase):
    """PROTOCOL 2, `redis.url`."""

    def test_good(self) -> None:
        """Every form of the protocol is read into its parts."""
        for text, url in GOOD.items():
            self.assertEqual(parse_redis_url(text), url, text)

    def test_bad(self) -> None:
        """Whatever else is refused with one line, which never shows a password."""
        for text in BAD:
            with self.assertRaises(ConfigError, msg=text) as caught:
                parse_redis_url(text)
            line = str(caught.exception)
            self.assertNotIn("\n", line)
            self.assertNotIn(SECRET, line)

    def test_no_form_shows_a_password(self) -> None:
        """Neither repr nor str of a URL shows the passwords in it."""
        url = parse_redis_url(f"redis+sentinel://u:{SECRET}@a,[::1]/g?sentinel_password={SECRET}2")
        self.assertNotIn(SECRET, f"{url!r} {url}")
        self.assertEqual(str(url), "redis+sentinel://a:26379,[::1]:26379/g")

    def test_shown(self) -> None:
        """A URL is shown as it could be written, without credentials."""
        for text in ("embedded", "redis://h:6379/3", "rediss://h:6379", "unix:///a", "rediss+sentinel://a:1/g"):
            self.assertEqual(str(parse_redis_url(text)), text)
        self.assertEqual(unix_url("/a", "pw"), RedisUrl(RedisKind.UNIX, path="/a", password="pw"))

    def test_r02_plaintext(self) -> None:
        """R02: plain text beyond this machine is known as such, and refused where TLS is required."""
        far = ("redis://h", "redis://10.0.0.1", "redis+sentinel://127.0.0.1,h/g", "redis://[2001:db8::1]")
        near = (
            "redis://localhost",
            "redis://LOCALHOST.",
            "redis://127.3.2.1",
            "redis://[::1]",
            "unix:///a",
            "embedded",
        )
        for text in far:
            self.assertTrue(parse_redis_url(text).plaintext, text)
            with self.assertRaisesRegex(ConfigError, "require_tls"):
                parse_redis_url(text, require_tls=True)
        for text in (*near, "rediss://h", "rediss+sentinel://h/g"):
            self.assertFalse(parse_redis_url(text, require_tls=True).plaintext, text)

    @examples(35)
    @given(st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()), st.text(max_size=20))
    @example("p@ss/w?rd#%", "üser:")
    def test_any_password(self, password: str, username: str) -> None:
        """Any password and user name come back from their escaped form."""
        url = parse_redis_url(f"redis://{quote(username, safe='')}:{quote(password, safe='')}@h")
        self.assertEqual((url.username, url.password), (username or None, password))

    @examples(35)
    @given(st.text(max_size=60))
    def test_anything(self, text: str) -> None:
        """Anything at all is either read or refused, never an accident."""
        for candidate in (text, f"redis://{text}", f"redis+sentinel://{text}", f"unix://{text}"):
            try:
                parse_redis_url(candidate)
            except ConfigError:
                continue
