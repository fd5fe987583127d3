"""What people read: each page renders, and no list is swallowed by the paragraph before it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.rst", *ROOT.glob("docs/*.rst"), *ROOT.glob("bench/*.rst")])
_BULLET = re.compile(r"( *)[*-] \S")


def swallowed(text: str) -> list[int]:
    """Numbers of the lines where a bullet stands that reStructuredText takes for words of a paragraph."""
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        above = lines[number - 2] if number > 1 else ""
        bullet = _BULLET.match(line)
        depth = len(bullet[1]) if bullet else 0
        of_a_list = _BULLET.match(above) is not None or above.startswith(" " * (depth + 2)) or not above.strip()
        if re.search(r"[.;:] \* [A-Z`]", line) or (bullet and not of_a_list):
            found.append(number)
    return found


class DocsTests(SynchronousTestCase):
    def test_lists(self) -> None:
        """A bullet stands at the beginning of its line, after a blank line or within its list."""
        self.assertGreater(len(PAGES), 4)
        self.assertEqual({str(page): lines for page in PAGES if (lines := swallowed(page.read_text()))}, {})

    def test_swallowed_lists_are_seen(self) -> None:
        """The rule itself: three ways of losing a bullet, and lists that are right."""
        self.assertEqual(swallowed("words:\n* one\n* two\n"), [2])
        self.assertEqual(swallowed("\n* One. * Two\n"), [2])
        self.assertEqual(swallowed("* one\n  goes on. * ``two`` x\n"), [2])
        self.assertEqual(swallowed("words:\n\n* one\n  goes on\n* two\n\n  * inner\n    goes on\n  * more\n"), [])
        self.assertEqual(swallowed("::\n\n   XADD key * command\n   a * b\n"), [])

    def test_render(self) -> None:
        """Where docutils is at hand, it has nothing to say of any page."""
        if find_spec("docutils") is None:
            return
        from docutils.core import publish_doctree  # type: ignore[import-untyped]

        for page in PAGES:
            told = StringIO()
            publish_doctree(
                page.read_text(), settings_overrides={"warning_stream": told, "report_level": 1, "halt_level": 5}
            )
            self.assertEqual(told.getvalue(), "", page.name)
