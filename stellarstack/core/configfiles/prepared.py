"""A replacement made ready: placeholders put in, and its value fitted to what stands in the file. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from stellarstack.core.blueprint import Replacement
from stellarstack.core.messages import Json
from stellarstack.core.patterns import BadPattern, compile_re2
from stellarstack.core.placeholders import expand
from stellarstack.errors import BlueprintInvalid

LookUp = Callable[[str], "str | None"]
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WHOLLY_A_NUMBER = re.compile(
    r"\{\{\s?(server\.(build\.default\.|allocations\.default\.)?port|server\.(build\.)?memory(_limit)?"
    r"|env\.SERVER_(PORT|MEMORY)|server\.(build\.env|environment)\.SERVER_(PORT|MEMORY))\s?\}\}"
)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_GO_REFERENCE = re.compile(r"\$(?:\$|([0-9]{1,2})|\{([0-9]{1,2})\})")
REGEX = "regex:"
KEY_MOST = 4096


class RawNumber(float):
    """A number that is written as it was read: `1.50` stays `1.50`."""

    literal: str

    def __new__(cls, literal: str) -> RawNumber:
        self = super().__new__(cls, literal)
        self.literal = literal
        return self


@dataclass(frozen=True, slots=True)
class Prepared:
    """`value` with its placeholders put in. `numeric`: it is one placeholder that is a number by nature."""

    key: str
    value: Json
    if_value: str | None = None
    numeric: bool = False

    @property
    def text(self) -> str:
        """The value for formats that know text only."""
        return text_of(self.value)

    def applies(self, current: Json) -> bool:
        """Whether the value may take the place of `current`, which stands there now."""
        if self.if_value is None:
            return True
        if self.if_value.startswith(REGEX):
            return bool(_searcher(self.if_value).search(text_of(current)))
        return text_of(current) == self.if_value

    def new_text(self, current: str) -> str:
        """The text to write where `current` stands; `applies` was asked before."""
        if self.if_value is None or not self.if_value.startswith(REGEX):
            return self.text
        return _replaced(self.if_value, self.text, current)

    def fitted(self, current: Json) -> Json:
        """The value in the type of `current` (None: nothing stands there), where its text can be read as that."""
        if not isinstance(self.value, str):
            return self.value
        text = self.new_text(text_of(current))
        if isinstance(current, bool):
            return _BOOLEANS.get(text.strip().lower(), text)
        if isinstance(current, int | float) or (current is None and self.numeric):
            return number_of(text)
        return text


def prepare(replacement: Replacement, look_up: LookUp) -> Prepared:
    """Puts the placeholders in, once: what is put in is not looked at again (SECURITY W17)."""
    value = replacement.value
    if len(replacement.key) > KEY_MOST:
        raise BlueprintInvalid(f"{replacement.key:.80}…: the key is over {KEY_MOST} characters")
    if not isinstance(value, str):
        return Prepared(replacement.key, value, replacement.if_value)
    by_regex = (replacement.if_value or "").startswith(REGEX)

    def put(name: str) -> str | None:
        found = look_up(name)
        return found.replace("$", "$$") if found is not None and by_regex else found

    return Prepared(
        replacement.key, expand(value, put), replacement.if_value, bool(_WHOLLY_A_NUMBER.fullmatch(value.strip()))
    )


def text_of(value: Json) -> str:
    """A value as text: booleans in small letters, null as nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, RawNumber):
        return value.literal
    return "" if value is None else str(value)


def number_of(text: str) -> Json:
    """The number that `text` is, else the text."""
    if not NUMBER.fullmatch(text) or len(text) > 300:
        return text
    return RawNumber(text) if set(text) & set(".eE") else int(text)


def _searcher(if_value: str) -> re.Pattern[str]:
    try:
        searcher: re.Pattern[str] = compile_re2(if_value.removeprefix(REGEX))
        return searcher
    except BadPattern as error:
        raise BlueprintInvalid(f"{if_value!r:.80} {error}") from error


def _replaced(if_value: str, template: str, current: str) -> str:
    """Each match in `current` by the template, `$1` and `${1}` being groups and `$$` a dollar, as in Go."""

    def put(found: re.Match[str]) -> str:
        def group(reference: re.Match[str]) -> str:
            number = reference[1] or reference[2]
            if number is None:
                return "$"
            return (found.group(int(number)) or "") if int(number) <= len(found.groups()) else ""

        return _GO_REFERENCE.sub(group, template)

    pieces, end = [], 0
    for found in _searcher(if_value).finditer(current):
        pieces += [current[end : found.start()], put(found)]
        end = found.end()
    return "".join([*pieces, current[end:]])
