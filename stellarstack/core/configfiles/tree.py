"""Puts values into documents of objects and lists, by the paths that eggs use (EGGS.md 4). Performs no I/O.

`a.b` steps into objects, a number into a list, `~1` is a dot and `~0` a tilde inside a step (`\\.` a dot too),
`a[0].b` an item of a list, `a.*.b` every child of `a`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, MutableMapping, MutableSequence
from typing import Any

from stellarstack.core.configfiles.prepared import Prepared
from stellarstack.core.messages import Json
from stellarstack.errors import BlueprintInvalid

_BRACKET = re.compile(r"(.*?)\[([0-9]{1,6})\](?:\.(.+))?", re.DOTALL)
_STEP = re.compile(r"(?<!\\)\.")
STEPS_MOST = 64


class Tree:
    """A parsed document. `make_…`: new containers of the parser's own kind, `keep`: a scalar in the old style."""

    def __init__(
        self,
        root: Any,
        *,
        make_object: Callable[[], Any] = dict,
        make_list: Callable[[], Any] = list,
        keep: Callable[[Any, Json], Any] = lambda old, new: new,
    ) -> None:
        self.root = root
        self._make_object = make_object
        self._make_list = make_list
        self._keep = keep

    def apply(self, replacements: Iterable[Prepared]) -> None:
        """All of them in order. BlueprintInvalid: a step leads through a value that is neither object nor list."""
        for replacement in replacements:
            self._apply(self.root, replacement.key, replacement)

    def _apply(self, base: Any, path: str, replacement: Prepared) -> None:
        left, wild, right = path.partition(".*")
        if wild and (not right or right.startswith(".")):
            self._apply_to_children(self._find(base, left), right.removeprefix("."), replacement)
        elif bracket := _BRACKET.fullmatch(path):
            self._apply_to_item(base, bracket[1], int(bracket[2]), bracket[3] or "", replacement)
        else:
            self._set(base, _steps(path), replacement)

    def _apply_to_children(self, base: Any, rest: str, replacement: Prepared) -> None:
        if isinstance(base, MutableMapping):
            keys: list[Any] = list(base)
        elif isinstance(base, MutableSequence):
            keys = list(range(len(base)))
        else:
            return
        for key in keys:
            if not rest:
                self._put(base, key, replacement)
            elif _is_container(base[key]):
                self._set(base[key], _steps(rest), replacement)

    def _apply_to_item(self, base: Any, path: str, index: int, rest: str, replacement: Prepared) -> None:
        """Item 0 is made where there is no list yet; any other must be there."""
        holder, key = self._holder(base, _steps(path), make=replacement.if_value is None) if path else (None, None)
        found = _get(holder, key) if path else base
        if not isinstance(found, MutableSequence) or index >= len(found):
            if replacement.if_value is not None:
                return
            found = self._new_item(holder, key, found, index, bool(rest))
        if rest and not _is_container(found[index]):
            if found[index] is not None:
                raise BlueprintInvalid(f"{replacement.key}: leads through a value that is no object")
            found[index] = self._make_object()
        if rest:
            self._set(found[index], _steps(rest), replacement)
        else:
            self._put(found, index, replacement)

    def _new_item(self, holder: Any, key: Any, found: Any, index: int, is_object: bool) -> Any:
        if index or holder is None:
            raise BlueprintInvalid(f"{key}[{index}]: there is no such item")
        if not isinstance(found, MutableSequence):
            holder[key] = self._make_list()
        holder[key].append(self._make_object() if is_object else None)
        return holder[key]

    def _set(self, base: Any, steps: list[str], replacement: Prepared) -> None:
        holder, key = self._holder(base, steps, make=replacement.if_value is None)
        if holder is not None:
            self._put(holder, key, replacement)

    def _put(self, holder: Any, key: Any, replacement: Prepared) -> None:
        current = _get(holder, key)
        if replacement.if_value is not None and (not _has(holder, key) or not replacement.applies(_plain(current))):
            return
        new = replacement.fitted(_plain(current))
        if new != _plain(current) or type(new) is not type(_plain(current)):
            holder[key] = self._keep(current, new)

    def _find(self, base: Any, path: str) -> Any:
        for step in _steps(path) if path else []:
            key = _key(base, step)
            base = _get(base, key) if _is_container(base) else None
        return base

    def _holder(self, base: Any, steps: list[str], *, make: bool) -> tuple[Any, Any]:
        """The container that holds the last step, and its key there; (None, None) where it is not there nor made."""
        for step in steps[:-1]:
            key = _key(base, step)
            below = _get(base, key)
            if below is None:
                if not make:
                    return None, None
                _new(base, key, self._make_object())
                below = _get(base, key)
            if not _is_container(below):
                if not make:
                    return None, None
                raise BlueprintInvalid(f"{'.'.join(steps)}: {step} is a value, not an object")
            base = below
        return base, _key(base, steps[-1])


def _steps(path: str) -> list[str]:
    steps = [step.replace("\\.", ".").replace("~1", ".").replace("~0", "~") for step in _STEP.split(path)]
    if len(steps) > STEPS_MOST:
        raise BlueprintInvalid(f"{path:.80}: has over {STEPS_MOST} steps")
    return steps


def _is_container(value: Any) -> bool:
    return isinstance(value, MutableMapping | MutableSequence)


def _key(container: Any, step: str) -> Any:
    """The step as a key of that container: a list's index must be there."""
    if not isinstance(container, MutableSequence):
        return _key_in_mapping(container, step)
    if not re.fullmatch(r"[0-9]{1,6}", step) or int(step) >= len(container):
        raise BlueprintInvalid(f"{step!r:.80}: there is no such item in the list of {len(container)}")
    return int(step)


def _key_in_mapping(mapping: Any, step: str) -> Any:
    """YAML has keys that are numbers."""
    if isinstance(mapping, MutableMapping) and step not in mapping and re.fullmatch(r"[0-9]{1,15}", step):
        return int(step) if int(step) in mapping else step
    return step


def _has(container: Any, key: Any) -> bool:
    return key < len(container) if isinstance(container, MutableSequence) else key in container


def _get(container: Any, key: Any) -> Any:
    return container[key] if container is not None and _has(container, key) else None


def _new(container: Any, key: Any, value: Any) -> None:
    container[key] = value


def _plain(value: Any) -> Json:
    """What `Prepared` may see of a value: containers and dates count as nothing to keep the type of."""
    return value if isinstance(value, bool | int | float | str) else None
