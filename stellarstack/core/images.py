"""Names of container images, read strictly before the engine sees them. Performs no I/O.

The grammar is Docker's own (`distribution/reference`), with the bounds of that grammar kept: a name that this module
accepts can stand in a URL path as it is, and none can be taken for an option, a path or a second argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stellarstack.errors import BlueprintInvalid

_NAME_MAX = 255
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*", re.ASCII)
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`repository` with its registry's host where one was written; `tag` is None only beside a `digest`."""

    repository: str
    tag: str | None
    digest: str | None

    @property
    def registry(self) -> str:
        """The host (and port) that serves it; empty where none was written: the engine's own default."""
        first, slash, _ = self.repository.partition("/")
        return first if slash and _is_host(first) else ""

    @property
    def version(self) -> str:
        """What the engine fetches: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_image(text: str) -> ImageReference:
    """Reads `[registry/]repository[:tag][@sha256:…]`; the tag is `latest` where neither stands. BlueprintInvalid."""
    if not isinstance(text, str) or len(text) > _NAME_MAX + 1 + 128 + 72:
        raise _invalid(text, "it is too long")
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, "after @ must stand sha256: and 64 hexadecimal digits")
    repository, tag = _split_tag(rest)
    if tag is not None and not _TAG.fullmatch(tag):
        raise _invalid(text, "its tag has a character that no tag has, or over 128 of them")
    _check_repository(text, repository)
    return ImageReference(repository, tag or (None if at else "latest"), digest if at else None)


def _split_tag(text: str) -> tuple[str, str | None]:
    colon = text.rfind(":")
    if colon <= text.rfind("/"):
        return text, None
    return text[:colon], text[colon + 1 :]


def _check_repository(text: str, repository: str) -> None:
    if len(repository) > _NAME_MAX:
        raise _invalid(text, f"its name is over {_NAME_MAX} characters")
    first, slash, path = repository.partition("/")
    if not slash or not _is_host(first):
        path = repository
    elif not _HOST.fullmatch(first):
        raise _invalid(text, "its registry is no host name")
    if not all(_PART.fullmatch(part) for part in path.split("/")):
        raise _invalid(text, "its name must be lower-case letters, digits and single . _ - / between them")


def _is_host(first: str) -> bool:
    """Docker's rule: the first part is a registry where it could not be a folder of Docker Hub."""
    return "." in first or ":" in first or first == "localhost"


def _invalid(text: object, why: str) -> BlueprintInvalid:
    shown = str(text)
    shown = shown if len(shown) <= 80 else shown[:80] + "…"
    return BlueprintInvalid(f"{shown!r} is no image name: {why}")
