"""Names of images, read strictly (SECURITY D04)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.images import parse_image
from stellarstack.errors import BlueprintInvalid
from tests.examples import examples

DIGEST = "sha256:" + "ab" * 32


class ImageNameTests(SynchronousTestCase):
    """`parse_image`."""

    def test_good_ones(self) -> None:
        """Each form in use is read into its parts and written back in full."""
        rows: dict[str, tuple[str, str, str | None, str | None]] = {
            "alpine": ("", "alpine", "latest", None),
            "alpine:3.19": ("", "alpine", "3.19", None),
            "hosts/minecraft": ("", "hosts/minecraft", "latest", None),
            "ghcr.io/pterodactyl/yolks:java_21": ("ghcr.io", "ghcr.io/pterodactyl/yolks", "java_21", None),
            "localhost/x": ("localhost", "localhost/x", "latest", None),
            "localhost:5000/a/b:v1": ("localhost:5000", "localhost:5000/a/b", "v1", None),
            "[::1]:5000/a": ("[::1]:5000", "[::1]:5000/a", "latest", None),
            f"a/b@{DIGEST}": ("", "a/b", None, DIGEST),
            f"a/b:1@{DIGEST}": ("", "a/b", "1", DIGEST),
            "a__b/c--d.e:T_1": ("", "a__b/c--d.e", "T_1", None),
        }
        for written, (registry, repository, tag, digest) in rows.items():
            found = parse_image(written)
            self.assertEqual((found.registry, found.repository, found.tag, found.digest),
                             (registry, repository, tag, digest))  # fmt: skip
            self.assertEqual(parse_image(str(found)), found)

    def test_version(self) -> None:
        """A digest is what is fetched where there is one, else the tag."""
        self.assertEqual(parse_image(f"a:1@{DIGEST}").version, DIGEST)
        self.assertEqual(parse_image("a").version, "latest")

    def test_bad_ones(self) -> None:
        """D04: shell words, options, paths, upper case, 300 characters, broken digests: refused in a line."""
        bad = (
            "", " ", "img;rm -rf /", "--privileged", "-a", "../x", "a/../b", "/a", "a/", "a//b", "Alpine", "a/B", "a b",
            "a:", "a:-x", "a:b:c", "a:" + "t" * 129, "a\n", "a\0", "a?x=1", "a#b", "a%2fb", "x" * 300, "a@sha256:12",
            f"a@{DIGEST}x", "a@", "@" + DIGEST, ":1", "a___b", "a..b", "-.io/a", "ghcr.io/", "Host.io:99999999/a", "ä",
            "http://ghcr.io/a", "a" * 100_000, "[::1/a", "٣/a",
        )  # fmt: skip
        for written in bad:
            error = self.assertRaises(BlueprintInvalid, parse_image, written)
            self.assertNotIn("\n", str(error))
            self.assertLess(len(str(error)), 250)

    @examples(35)
    @given(some.text(max_size=80))
    def test_anything(self, written: str) -> None:
        """Any text is refused, or is safe to stand in a URL's path."""
        try:
            found = parse_image(written)
        except BlueprintInvalid:
            return
        self.assertRegex(str(found), r"\A[A-Za-z0-9\[][A-Za-z0-9._:/@\[\]-]*\Z")
        self.assertNotIn("..", str(found.repository))
