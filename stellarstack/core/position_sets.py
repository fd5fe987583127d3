"""Regular expressions that look around, searched without ever going back. Performs no I/O.

Instead of trying one way after another, each part of the expression takes the set of all positions that may be reached
and answers the set of those that can be reached after it (forward), or from which it leads there (backward). A set is
an int, bit i being the position before the text's i-th character. What comes before decides nothing, so captures, back
references and atomic groups cannot be had; nothing else is lost, since only "found or not" is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for the parts of a parsed pattern
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any, Protocol, TypeAlias

STEPS_MOST = 20_000  # less than ten milliseconds
Test: TypeAlias = Callable[[str], bool]
_CASES = 3  # forms of a character that may have to be tried where case does not count


class NotSearchable(ValueError):
    """The expression needs what positions alone do not tell."""


class OutOfSteps(ValueError):
    """The search was broken off: nobody knows what it would have found."""


class Text:
    """One text being searched. OutOfSteps: it took more than `STEPS_MOST`."""

    def __init__(self, text: str) -> None:
        self.size = len(text)
        self.all = (1 << (self.size + 1)) - 1
        self.where: dict[str, int] = {}
        self._masks: dict[CharacterClass, int] = {}
        self.assertions: dict[int, int] = {}
        self._left = STEPS_MOST
        for at, char in enumerate(text):
            self.where[char] = self.where.get(char, 0) | 1 << at

    def step(self, count: int = 1) -> None:
        self._left -= count
        if self._left < 0:
            raise OutOfSteps

    def mask(self, chars: CharacterClass) -> int:
        """The positions before characters that are of the class."""
        self.step()
        if chars not in self._masks:
            self.step(len(self.where) * chars.cost)
            self._masks[chars] = sum(mask for char, mask in self.where.items() if chars.holds(char))
        return self._masks[chars]


@dataclass(frozen=True, slots=True, eq=False)
class CharacterClass:
    """The characters of `single`, and those that pass one of the tests; with `negate` all others."""

    single: frozenset[str] = frozenset()
    tests: tuple[Test, ...] = ()
    negate: bool = False
    any_case: bool = False

    @property
    def cost(self) -> int:
        """Steps that it takes at most to decide about one character."""
        return (1 + len(self.tests)) * (_CASES if self.any_case else 1)

    def holds(self, char: str) -> bool:
        if self.any_case:
            forms = {form for form in (char, char.lower(), char.upper()) if len(form) == 1}
            return any(map(self._has, forms)) is not self.negate
        return self._has(char) is not self.negate

    def _has(self, char: str) -> bool:
        return char in self.single or any(test(char) for test in self.tests)


class Part(Protocol):
    """A piece of an expression."""

    def forward(self, text: Text, begins: int) -> int: ...
    def backward(self, text: Text, ends: int) -> int: ...


@dataclass(frozen=True, slots=True)
class One:
    """One character of the class."""

    chars: CharacterClass

    def forward(self, text: Text, begins: int) -> int:
        return (begins & text.mask(self.chars)) << 1

    def backward(self, text: Text, ends: int) -> int:
        return (ends >> 1) & text.mask(self.chars)


@dataclass(frozen=True, slots=True)
class Run:
    """Any number of characters of the class, by doubling."""

    chars: CharacterClass

    def forward(self, text: Text, begins: int) -> int:
        mask, width = text.mask(self.chars), 1
        while begins & mask:
            text.step()
            begins |= (begins & mask) << width
            mask, width = mask & (mask >> width), width * 2
        return begins

    def backward(self, text: Text, ends: int) -> int:
        mask, width = text.mask(self.chars), 1
        while mask:
            text.step()
            ends |= (ends >> width) & mask
            mask, width = mask & (mask >> width), width * 2
        return ends


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Part, ...]

    def forward(self, text: Text, begins: int) -> int:
        for part in self.parts:
            text.step()
            begins = begins and part.forward(text, begins)
        return begins

    def backward(self, text: Text, ends: int) -> int:
        for part in reversed(self.parts):
            text.step()
            ends = ends and part.backward(text, ends)
        return ends


@dataclass(frozen=True, slots=True)
class Choice:
    parts: tuple[Part, ...]

    def forward(self, text: Text, begins: int) -> int:
        found = 0
        for part in self.parts:
            text.step()
            found |= part.forward(text, begins)
        return found

    def backward(self, text: Text, ends: int) -> int:
        found = 0
        for part in self.parts:
            text.step()
            found |= part.backward(text, ends)
        return found


@dataclass(frozen=True, slots=True)
class Repeat:
    """`part` from `low` to `high` times (None: any number)."""

    part: Part
    low: int
    high: int | None

    def forward(self, text: Text, begins: int) -> int:
        return self._repeat(text, begins, self.part.forward)

    def backward(self, text: Text, ends: int) -> int:
        return self._repeat(text, ends, self.part.backward)

    def _repeat(self, text: Text, found: int, once: Callable[[Text, int], int]) -> int:
        for _ in range(self.low):
            text.step()
            found = once(text, found)
        news, left = found, -1 if self.high is None else self.high - self.low
        while news and left:
            text.step()
            left -= 1
            news = once(text, news) & ~found  # what was reached in fewer rounds leads on at least as far
            found |= news
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Where:
    """No character, but a condition on where it is."""

    holds: Callable[[Text], int]

    def forward(self, text: Text, begins: int) -> int:
        if id(self) not in text.assertions:
            text.assertions[id(self)] = self.holds(text) & text.all
        return begins & text.assertions[id(self)]

    backward = forward


def parsed(expression: str, flags: int) -> Part:
    """What searches for `expression`. NotSearchable; re.error, RecursionError, OverflowError: it cannot be read."""
    tree = sre_parser.parse(expression, flags)
    return _sequence(tree, tree.state.flags)


def is_found(part: Part, text: str) -> bool:
    """Whether it is found anywhere in `text`. OutOfSteps."""
    searched = Text(text)
    return bool(part.forward(searched, searched.all))


def _sequence(tree: Any, flags: int) -> Part:
    return Sequence(tuple(_part(operation, argument, flags) for operation, argument in tree))


def _part(operation: Any, argument: Any, flags: int) -> Part:
    if operation in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
        return One(_class(operation, argument, flags))
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        return _repeat(_sequence(argument[2], flags), argument[0], argument[1])
    if operation is sre.SUBPATTERN:
        return _sequence(argument[3], (flags | argument[1]) & ~argument[2])
    if operation is sre.BRANCH:
        return Choice(tuple(_sequence(branch, flags) for branch in argument[1]))
    if operation in (sre.ASSERT, sre.ASSERT_NOT):
        return _look(_sequence(argument[1], flags), argument[0] > 0, operation is sre.ASSERT)
    if operation is sre.AT:
        return Where(_anchor(argument, flags))
    raise NotSearchable(f"{str(operation).lower()} cannot be had beside what looks around")


def _repeat(part: Part, low: int, high: Any) -> Part:
    unbounded = high is sre.MAXREPEAT
    if unbounded and isinstance(part, Sequence) and len(part.parts) == 1 and isinstance(part.parts[0], One):
        run = Run(part.parts[0].chars)
        return Sequence((Repeat(part, low, low), run)) if low else run
    return Repeat(part, low, None if unbounded else int(high))


def _look(part: Part, ahead: bool, wanted: bool) -> Part:
    def holds(text: Text) -> int:
        found = part.backward(text, text.all) if ahead else part.forward(text, text.all)
        return found if wanted else ~found

    return Where(holds)


# ------------------------------------------------------------------ characters

_CATEGORIES: dict[Any, Test] = {
    sre.CATEGORY_DIGIT: str.isdecimal,
    sre.CATEGORY_SPACE: str.isspace,
    sre.CATEGORY_WORD: lambda char: char.isalnum() or char == "_",
    sre.CATEGORY_NOT_DIGIT: lambda char: not char.isdecimal(),
    sre.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    sre.CATEGORY_NOT_WORD: lambda char: not (char.isalnum() or char == "_"),
}


_NEWLINE = CharacterClass(frozenset("\n"))
_WORD = CharacterClass(tests=(_CATEGORIES[sre.CATEGORY_WORD],))


def _class(operation: Any, argument: Any, flags: int) -> CharacterClass:
    if operation is sre.ANY:
        return CharacterClass(frozenset() if flags & re.DOTALL else frozenset("\n"), negate=True)
    any_case = bool(flags & re.IGNORECASE)
    if operation is not sre.IN:
        return CharacterClass(frozenset(chr(argument)), (), operation is sre.NOT_LITERAL, any_case)
    return CharacterClass(
        frozenset(chr(value) for kind, value in argument if kind is sre.LITERAL),
        tuple(_several(kind, value) for kind, value in argument if kind not in (sre.LITERAL, sre.NEGATE)),
        argument[0][0] is sre.NEGATE,
        any_case,
    )


def _several(operation: Any, argument: Any) -> Test:
    """One range, or one category."""
    if operation is sre.RANGE:
        low, high = argument
        return lambda char: low <= ord(char) <= high
    return _CATEGORIES[argument]


def _anchor(kind: Any, flags: int) -> Callable[[Text], int]:
    many = bool(flags & re.MULTILINE)
    if kind is sre.AT_BEGINNING:
        return lambda text: 1 | (text.mask(_NEWLINE) << 1 if many else 0)
    if kind is sre.AT_END:
        return lambda text: 1 << text.size | text.mask(_NEWLINE) & (text.all if many else 1 << text.size >> 1)
    if kind is sre.AT_BEGINNING_STRING:
        return lambda text: 1
    if kind is sre.AT_END_STRING:
        return lambda text: 1 << text.size
    if kind is sre.AT_BOUNDARY:
        return lambda text: text.mask(_WORD) ^ text.mask(_WORD) << 1
    return lambda text: ~(text.mask(_WORD) ^ text.mask(_WORD) << 1)
