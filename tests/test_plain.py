"""Dataclasses to JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.plain import dump, load


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    text: str
    number: float = 1.0


@dataclass(frozen=True)
class Outer:
    inner: Inner
    many: tuple[Inner, ...] = ()
    colour: Colour = Colour.RED
    either: str | tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    flag: bool = False


class PlainTests(SynchronousTestCase):
    def test_round_trip(self) -> None:
        """What was dumped is loaded as it was."""
        for outer in [
            Outer(Inner("a")),
            Outer(Inner("a", 2), (Inner("b"), Inner("c")), Colour.RED, ("x", "y"), {"A": "1"}, True),
            Outer(Inner(""), either="text"),
        ]:
            self.assertEqual(load(Outer, dump(outer)), outer)  # type: ignore[arg-type]

    def test_other_versions(self) -> None:
        """A missing key takes its default and an unknown one is left out."""
        self.assertEqual(load(Outer, {"inner": {"text": "a", "new": 1}, "newer": []}), Outer(Inner("a")))

    def test_refusals(self) -> None:
        """A document of another shape raises ValueError, never anything else."""
        for document in [
            {}, {"inner": 1}, {"inner": {"text": 1}}, {"inner": {"text": "a"}, "many": {}},
            {"inner": {"text": "a"}, "colour": "blue"}, {"inner": {"text": "a"}, "either": 5},
            {"inner": {"text": "a"}, "flag": 1}, {"inner": {"text": "a", "number": True}},
        ]:  # fmt: skip
            self.assertRaises(ValueError, load, Outer, document)
