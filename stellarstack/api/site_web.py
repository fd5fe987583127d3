"""The web console at `/`: its files, read and compressed once at the start, and the headers that fence it in (P06).

The files lie in `web/` beside this module. `/` is the page; all it needs is below `/web/{digest of all files}/`, so a
browser may keep those for ever and never mixes two versions.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stellarstack import __version__
from stellarstack.api.http_answers import Answer, Ask

FOLDER = Path(__file__).parent / "web"
_PAGE = "index.html"
_MODULES = (".js", ".mjs")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_GZIP = re.compile(r"gzip(\s*;\s*q\s*=\s*(1|0?\.?0*[1-9])[0-9.]*)?", re.IGNORECASE)
_FOR_EVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
# What nobody's script on this page may ask of the browser.
_NO_DEVICES = "camera=(), microphone=(), geolocation=(), display-capture=(), payment=(), usb=(), serial=(), hid=()"


@dataclass(frozen=True, slots=True)
class WebFile:
    """One file as it is sent. `packed` is its gzip, None where that saves nothing."""

    body: bytes
    packed: bytes | None
    content_type: str
    etag: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def get(self, request: Any) -> Answer:
        """200, or 304 where the browser has it already."""
        packed = self.packed if _takes_gzip(request) else None
        etag = f'"{self.etag}{"-gz" if packed is not None else ""}"'
        headers = {**self.headers, "ETag": etag, "Vary": "Accept-Encoding"}
        if _has(request, etag):
            return Answer(304, b"", self.content_type, headers)
        if packed is not None:
            return Answer(200, packed, self.content_type, {**headers, "Content-Encoding": "gzip"})
        return Answer(200, self.body, self.content_type, headers)


class WebConsole:
    """The page and its files. `embedders`: the origins whose pages may hold it in a frame."""

    def __init__(self, embedders: Sequence[str] = (), folder: Path = FOLDER) -> None:
        bodies = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)}
        self.digest = _digest(bodies)
        # named at once, or a browser finds them one import after the other
        modules = "".join(f'<link rel="modulepreload" href="web/{name}">' for name in bodies if name.endswith(_MODULES))
        page = bodies.pop(_PAGE).replace(b"<!-- modules -->", modules.encode())
        page = page.replace(b'"web/', f'"web/{self.digest}/'.encode())
        policy = content_security_policy(embedders)
        self._page = _web_file(_PAGE, page, {**page_headers(policy), "Cache-Control": _ASK_AGAIN})
        kept = {"Cache-Control": _FOR_EVER, "Cross-Origin-Resource-Policy": "same-origin"}
        self._files = {name: _web_file(name, body, kept) for name, body in bodies.items()}
        told = {"version": __version__, "embedders": list(embedders)}
        self._settings = Answer(200, json.dumps(told).encode(), headers={"Cache-Control": _ASK_AGAIN})

    @property
    def files(self) -> Mapping[str, Ask]:
        """What is below `/web/{digest}/`, by its path there."""
        return {name: file.get for name, file in self._files.items()}

    async def page(self, request: Any) -> Answer:
        """`GET /`."""
        return await self._page.get(request)

    async def settings(self, _request: Any) -> Answer:
        """`GET /web.json`: what the page must know before anybody is in."""
        return self._settings


def content_security_policy(embedders: Sequence[str]) -> str:
    """Nothing but the daemon's own scripts and styles, no inline ones; text never becomes HTML (Trusted Types)."""
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": " ".join(embedders) or "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def page_headers(policy: str) -> dict[str, str]:
    """The page's own headers, beside those of every answer."""
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": f"clipboard-read=(self), clipboard-write=(self), {_NO_DEVICES}",
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _TYPES)


def _digest(bodies: Mapping[str, bytes]) -> str:
    found = hashlib.sha256()
    for name, body in bodies.items():
        found.update(f"{name}\0{len(body)}\0".encode() + body)
    return found.hexdigest()[:20]


def _web_file(name: str, body: bytes, headers: Mapping[str, str]) -> WebFile:
    packed = gzip.compress(body, 6, mtime=0)
    return WebFile(
        body=body,
        packed=packed if len(packed) < len(body) else None,
        content_type=_TYPES[Path(name).suffix],
        etag=hashlib.sha256(body).hexdigest()[:32],
        headers=headers,
    )


def _words(request: Any, name: str) -> list[str]:
    lines = request.requestHeaders.getRawHeaders(name) or []
    return [word.strip() for line in lines for word in line.split(",")]


def _takes_gzip(request: Any) -> bool:
    return any(_GZIP.fullmatch(word) for word in _words(request, "accept-encoding"))


def _has(request: Any, etag: str) -> bool:
    return any(word == "*" or word.removeprefix("W/") == etag for word in _words(request, "if-none-match"))
