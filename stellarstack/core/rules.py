"""The rules of variables, in the vocabulary that panels use (EGGS.md 1, Laravel's). Performs no I/O.

As in a panel, an empty value is judged by `required` and its like alone, lengths and values share the words
max, min, between and size (a value only where `numeric` or `integer` stands beside them), and a word that is not
known here refuses nothing: it may speak of other fields, of files, or of a newer panel.
"""

from __future__ import annotations

import csv
import ipaddress
import json
import re
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from stellarstack.core.patterns import BadPattern, Searcher, compile_pattern

_NUMERIC = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_INTEGER = re.compile(r"\s*[+-]?(0|[1-9]\d*)\s*", re.ASCII)
_ALWAYS_ASKED = frozenset({"required", "filled", "accepted"})
_REGEX_PIECES = 64
_RULES_MOST = 1 << 16
_VALUE_WORK = 5_000_000  # as patterns.LINE_WORK, but for one value of one order
_BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_DELIMITED = re.compile(r"(?:not_)?regex:\s*([^\sA-Za-z0-9\\])")


def split_rules(rules: object) -> tuple[str, ...]:
    """Single rules out of one `|`-joined string or a list of such; empty ones are left out.

    A `|` inside the delimiters of a `regex:` belongs to the expression.
    """
    if isinstance(rules, str):
        return tuple(_split(rules))
    if isinstance(rules, Mapping):
        rules = rules.values()
    if isinstance(rules, Iterable):
        return tuple(found for rule in rules if isinstance(rule, str) for found in _split(rule))
    return ()


def _split(text: str) -> list[str]:
    found: list[str] = []
    pieces = text[:_RULES_MOST].split("|")
    index = 0
    while index < len(pieces):
        count = _pieces_of_regex(pieces, index)
        found.append("|".join(pieces[index : index + count]).strip())
        index += count
    return [rule for rule in found if rule]


def _pieces_of_regex(pieces: list[str], index: int) -> int:
    """How many `|`-separated pieces the rule at `index` takes: more than one only of a regex that ends later."""
    if not _DELIMITED.match(pieces[index].lstrip()):
        return 1
    for count in range(1, min(len(pieces) - index, _REGEX_PIECES) + 1):
        rule = "|".join(pieces[index : index + count]).strip()
        if _undelimited(rule.partition(":")[2].strip()) is not None:
            return count
    return 1


def _undelimited(text: str) -> tuple[str, str] | None:
    """Expression and flags of a PCRE with delimiters, None where it has no end."""
    if not text:
        return None
    closing = _BRACKETS.get(text[0], text[0])
    end = text.rfind(closing)
    if end <= 0 or not re.fullmatch(r"[imsxuUADSXJn]*", text[end + 1 :]) or _escaped(text, end):
        return None
    return text[1:end], text[end + 1 :]


def _escaped(text: str, index: int) -> bool:
    before = text[:index]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


@dataclass(frozen=True, slots=True)
class _Asked:
    """One rule put to one value."""

    value: str
    argument: str
    by_value: bool

    @property
    def size(self) -> float:
        if self.by_value and _NUMERIC.fullmatch(self.value):
            return float(self.value)
        return len(self.value)

    @property
    def numbers(self) -> list[float]:
        try:
            return [float(part) for part in self.argument.split(",")]
        except ValueError as error:
            raise _Unreadable from error

    @property
    def choices(self) -> list[str]:
        return next(csv.reader([self.argument]), [""])


def broken_rule(rules: Iterable[str], value: str) -> str | None:
    """The first of `rules` that `value` breaks, as written; None where it breaks none."""
    listed = [(rule, *_named(rule)) for rule in rules]
    by_value = any(name in ("numeric", "integer", "int", "decimal") for _, name, _ in listed)
    empty = not value.strip()
    for rule, name, argument in listed:
        test = _TESTS.get(name)
        if test is None or (empty and name not in _ALWAYS_ASKED):
            continue
        if not _passes(test, _Asked(value, argument, by_value)):
            return rule
    return None


def _named(rule: str) -> tuple[str, str]:
    name, _, argument = rule.partition(":")
    return name.strip().lower(), argument


def _passes(test: Callable[[_Asked], bool], asked: _Asked) -> bool:
    """Where the value cannot even be read it does not pass; where the rule cannot, it refuses nothing."""
    try:
        return test(asked)
    except (_Unreadable, IndexError):
        return True
    except ValueError:
        return False


class _Unreadable(Exception):
    """The rule's own argument makes no sense: the rule refuses nothing."""


@lru_cache(maxsize=512)
def _expression(argument: str) -> Searcher:
    expression, flags = _undelimited(argument.strip()) or (argument, "")
    inline = "".join(flag for flag in "ms" if flag in flags)
    try:
        pattern = f"(?{inline}){expression}" if inline else expression
        return compile_pattern(pattern, ignore_case="i" in flags, work=_VALUE_WORK)
    except BadPattern as error:
        raise _Unreadable from error


def _is_found(asked: _Asked) -> bool:
    """ValueError: the value is too long for its expression, or takes too many steps; it is not let in unseen."""
    searcher = _expression(asked.argument)
    if not searcher.fits(asked.value):
        raise ValueError("too long")
    return bool(searcher.search(asked.value))


def _is_url(text: str) -> bool:
    if re.search(r"[\s<>\"\\^`{|}\x00-\x1f\x7f]", text):
        return False
    parts = urlsplit(text)
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", parts.scheme)) and bool(parts.hostname)


def _is_ip(text: str, *versions: int) -> bool:
    return ipaddress.ip_address(text).version in (versions or (4, 6))


def _is_json(text: str) -> bool:
    json.loads(text[:65536])
    return True


def _is_uuid(text: str) -> bool:
    return str(uuid.UUID(text)) == text.lower()


def _digits(asked: _Asked, low: float, high: float) -> bool:
    return bool(re.fullmatch(r"[0-9]+", asked.value)) and low <= len(asked.value) <= high


def _letters(text: str, also: str) -> bool:
    return all(letter.isalpha() or letter in also or unicodedata.category(letter).startswith("M") for letter in text)


def _alpha_num(text: str, also: str) -> bool:
    return all(letter.isnumeric() or _letters(letter, also) for letter in text)


_BOOLEANS = frozenset({"0", "1", "true", "false"})
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)*")

_TESTS: dict[str, Callable[[_Asked], bool]] = {
    "required": lambda asked: bool(asked.value.strip()),
    "filled": lambda asked: bool(asked.value.strip()),
    "accepted": lambda asked: asked.value.lower() in ("yes", "on", "1", "true"),
    "numeric": lambda asked: bool(_NUMERIC.fullmatch(asked.value)),
    "integer": lambda asked: bool(_INTEGER.fullmatch(asked.value)),
    "int": lambda asked: bool(_INTEGER.fullmatch(asked.value)),
    "boolean": lambda asked: asked.value.strip().lower() in _BOOLEANS,
    "bool": lambda asked: asked.value.strip().lower() in _BOOLEANS,
    "max": lambda asked: asked.size <= asked.numbers[0],
    "min": lambda asked: asked.size >= asked.numbers[0],
    "size": lambda asked: asked.size == asked.numbers[0],
    "between": lambda asked: asked.numbers[0] <= asked.size <= asked.numbers[1],
    "gt": lambda asked: asked.size > asked.numbers[0],
    "gte": lambda asked: asked.size >= asked.numbers[0],
    "lt": lambda asked: asked.size < asked.numbers[0],
    "lte": lambda asked: asked.size <= asked.numbers[0],
    "multiple_of": lambda asked: float(asked.value) % asked.numbers[0] == 0,
    "digits": lambda asked: _digits(asked, asked.numbers[0], asked.numbers[0]),
    "digits_between": lambda asked: _digits(asked, asked.numbers[0], asked.numbers[1]),
    "min_digits": lambda asked: _digits(asked, asked.numbers[0], float("inf")),
    "max_digits": lambda asked: _digits(asked, 0, asked.numbers[0]),
    "in": lambda asked: asked.value in asked.choices,
    "not_in": lambda asked: asked.value not in asked.choices,
    "regex": _is_found,
    "not_regex": lambda asked: not _is_found(asked),
    "alpha": lambda asked: _letters(asked.value, ""),
    "alpha_num": lambda asked: _alpha_num(asked.value, ""),
    "alpha_dash": lambda asked: _alpha_num(asked.value, "_-"),
    "ascii": lambda asked: asked.value.isascii(),
    "lowercase": lambda asked: asked.value == asked.value.lower(),
    "uppercase": lambda asked: asked.value == asked.value.upper(),
    "starts_with": lambda asked: asked.value.startswith(tuple(asked.choices)),
    "ends_with": lambda asked: asked.value.endswith(tuple(asked.choices)),
    "url": lambda asked: _is_url(asked.value),
    "active_url": lambda asked: _is_url(asked.value),
    "ip": lambda asked: _is_ip(asked.value),
    "ipv4": lambda asked: _is_ip(asked.value, 4),
    "ipv6": lambda asked: _is_ip(asked.value, 6),
    "email": lambda asked: bool(_EMAIL.fullmatch(asked.value)),
    "json": lambda asked: _is_json(asked.value),
    "uuid": lambda asked: _is_uuid(asked.value),
}
