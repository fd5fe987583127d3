"""XML: comments, order and layout as they were; no document type, no entities. Performs no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.dom.minidom import Document, Element, Node, Text
from xml.parsers.expat import ExpatError

from defusedxml import DefusedXmlException, minidom

from stellarstack.core.configfiles.lines import newline_of
from stellarstack.core.configfiles.prepared import Prepared
from stellarstack.errors import BlueprintInvalid

NODES_MOST = 50_000
DEPTH_MOST = 64
_DECLARATION = re.compile(r"\ufeff?\s*(<\?xml\s[^>]*\?>\s*)")
_ATTRIBUTE = re.compile(r"\[\s*@?([\w:.-]+)\s*=\s*(['\"])(.*)\2\s*\]", re.DOTALL)
_STEP = re.compile(r"((?:[^.\[\]]|\[[^\]]*\])+)(?:\.|$)")
_NAME = re.compile(r"[A-Za-z_][\w:-]*|\*")


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path: an element's name (`*`: any), an attribute or child it must have, its number (from 1)."""

    name: str
    attribute: tuple[str, str] | None = None
    child: tuple[str, str] | None = None
    number: int | None = None

    @property
    def plain(self) -> bool:
        return self.name != "*" and self.attribute is None and self.child is None and self.number is None


def patch_xml(text: str, replacements: Sequence[Prepared]) -> str:
    """Sets text or, by a value `[name='text']`, an attribute of every element that a path finds.

    Missing elements are made under a root of the path's first name; an empty text gets that root. ValueError: it is no
    XML, or has a document type.
    """
    document = _read(text, replacements)
    newline = newline_of(text)
    for replacement in replacements:
        _apply(document, replacement)
    declaration = _DECLARATION.match(text)
    head = declaration[1] if declaration else "" if text.strip() else f'<?xml version="1.0" encoding="UTF-8"?>{newline}'
    written = (newline if not declaration else "").join(child.toxml() for child in document.childNodes)
    if declaration and len(document.childNodes) > 1:
        written = newline.join(child.toxml() for child in document.childNodes)
    return head + written + (text[len(text.rstrip()) :] or newline)


def _read(text: str, replacements: Sequence[Prepared]) -> Document:
    if not text.strip():
        text = f"<{_steps(replacements[0].key)[0].name}/>" if replacements else "<config/>"
    if text.count("<") > NODES_MOST:
        raise ValueError(f"has over {NODES_MOST} tags")
    try:
        # As text: an encoding that it declares was undone when its bytes were read.
        declaration = _DECLARATION.match(text)
        source = text[declaration.end() :] if declaration else text
        document: Document = minidom.parseString(source, forbid_dtd=True)
    except DefusedXmlException as error:
        raise ValueError("document types and entities are not allowed") from error
    except ExpatError as error:
        raise ValueError(str(error)) from error
    _check_depth(document)
    return document


def _check_depth(document: Document) -> None:
    """Without recursion, which the writing of the tree is not."""
    waiting: list[tuple[Node, int]] = [(document, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > DEPTH_MOST:
            raise ValueError(f"nests deeper than {DEPTH_MOST}")
        waiting += [(child, depth + 1) for child in node.childNodes]


def _steps(path: str) -> list[_Step]:
    return [_step(found[1], path) for found in _STEP.finditer(path) if found[1]] or [_step(path, path)]


def _step(text: str, path: str) -> _Step:
    name, bracket, rest = text.partition("[")
    if not _NAME.fullmatch(name):
        raise BlueprintInvalid(f"{path:.80}: {name!r:.40} is no element's name")
    if not bracket:
        return _Step(name)
    inside = rest.rstrip("]")
    if inside.isdigit():
        return _Step(name, number=int(inside))
    found = _ATTRIBUTE.fullmatch(f"[{inside}]")
    if found is None:
        raise BlueprintInvalid(f"{path:.80}: [{inside:.40}] says nothing about an element")
    pair = (found[1], found[3])
    return _Step(name, attribute=pair) if inside.lstrip().startswith("@") else _Step(name, child=pair)


def _apply(document: Document, replacement: Prepared) -> None:
    steps = _steps(replacement.key)
    root = document.documentElement
    if root is None or not _fits(root, steps[0]):
        return
    found = [root]
    for step in steps[1:]:
        found = [child for parent in found for child in _children(parent, step)]
        if not found:
            if not all(step.plain for step in steps) or replacement.if_value is not None:
                return
            found = [_make(document, root, steps[1:])]
            break
    for element in found:
        _set(document, element, replacement)


def _children(parent: Element, step: _Step) -> list[Element]:
    named = [child for child in _elements(parent) if _fits(child, step)]
    return named if step.number is None else named[step.number - 1 : step.number] if step.number else []


def _elements(parent: Element) -> Iterator[Element]:
    return (child for child in parent.childNodes if isinstance(child, Element))


def _fits(element: Element, step: _Step) -> bool:
    if step.name not in ("*", element.tagName):
        return False
    if step.attribute and element.getAttribute(step.attribute[0]) != step.attribute[1]:
        return False
    if step.child is None:
        return True
    name, text = step.child
    if element.hasAttribute(name) and element.getAttribute(name) == text:
        return True
    return any(child.tagName == name and _text(child) == text for child in _elements(element))


def _make(document: Document, root: Element, steps: list[_Step]) -> Element:
    """Walks as far as elements are there, the first of each, and makes the rest."""
    parent, depth, unit = root, 0, _indent(root)
    for step in steps:
        depth += 1
        there = _children(parent, step)
        if there:
            parent = there[0]
            continue
        made = document.createElement(step.name)
        _append(document, parent, made, unit, depth)
        parent = made
    return parent


def _indent(root: Element) -> str | None:
    """What the root's first child is indented by; None: all stands on one line."""
    for child in root.childNodes:
        if not isinstance(child, Text):
            return None
        if "\n" in child.data:
            return child.data.rpartition("\n")[2] if child.nextSibling is not None else "  "
    return "  "


def _append(document: Document, parent: Element, made: Element, unit: str | None, depth: int) -> None:
    """On a line of its own, as deep as the parent's other children."""
    last = parent.lastChild
    if isinstance(last, Text) and not last.data.strip():
        parent.removeChild(last)
    if unit is not None:
        parent.appendChild(document.createTextNode("\n" + unit * depth))
    parent.appendChild(made)
    if unit is not None:
        parent.appendChild(document.createTextNode("\n" + unit * (depth - 1)))


def _set(document: Document, element: Element, replacement: Prepared) -> None:
    attribute = _ATTRIBUTE.fullmatch(replacement.text)
    if attribute is not None:
        current = element.getAttribute(attribute[1])
        if replacement.if_value is None or (element.hasAttribute(attribute[1]) and replacement.applies(current)):
            element.setAttribute(attribute[1], _clean(attribute[3]))
        return
    current = _text(element)
    new = _clean(replacement.new_text(current)) if replacement.applies(current) else current
    if new == current:
        return
    for child in [child for child in element.childNodes if child.nodeType in (Node.TEXT_NODE, Node.CDATA_SECTION_NODE)]:
        element.removeChild(child)
    element.insertBefore(document.createTextNode(new), element.firstChild)


def _text(element: Element) -> str:
    kinds = (Node.TEXT_NODE, Node.CDATA_SECTION_NODE)
    return "".join(str(child.nodeValue) for child in element.childNodes if child.nodeType in kinds)


def _clean(text: str) -> str:
    """Without the characters that no XML can hold."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]", "", text)
