"""The web console as it is served: its files, their headers, and that nothing in them leads outside (P06)."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource

from stellarstack import __version__
from stellarstack.api.http import DaemonSite
from stellarstack.api.site import make_site
from stellarstack.api.site_web import FOLDER, WebConsole, content_security_policy
from stellarstack.tasks import Tasks
from tests.api_wire import Got, Peer

ROOT = Path(__file__).parent.parent
WEB = WebConsole()
PANEL = "https://panel.example"


def site_of(web: WebConsole) -> DaemonSite:
    def nobody() -> None:
        raise AssertionError("not asked here")

    unused: object = nobody
    return make_site(
        reactor=Clock(), tasks=Tasks(), health=unused, metrics=unused, metrics_token=None,  # type: ignore[arg-type]
        console=Resource(), web=web,
    )  # fmt: skip


SITE = site_of(WEB)


def get(target: str, method: str = "GET", *, site: DaemonSite = SITE, **headers: str) -> Got:
    peer = Peer(site)
    peer.ask(method, target, None, **headers)
    (found,) = peer.answers(to_head=method == "HEAD")
    return found


def policy(got: Got) -> dict[str, str]:
    parts = [part.split(None, 1) for part in got.headers["content-security-policy"].split("; ")]
    return {part[0]: part[1] for part in parts}


class ThePage(SynchronousTestCase):
    """`GET /` and `/web.json`."""

    def test_the_page(self) -> None:
        """It is HTML whose scripts and styles lie below the digest of all files, with no inline one."""
        got = get("/")
        text = got.body.decode()
        self.assertEqual((got.status, got.headers["content-type"]), (200, "text/html; charset=utf-8"))
        self.assertIn(f'src="web/{WEB.digest}/boot.js"', text)
        self.assertIn(f'<link rel="modulepreload" href="web/{WEB.digest}/parts/live.js">', text)
        self.assertNotRegex(text, r"<style|<script[^>]*>[^<]|\son\w+=|\sstyle=|javascript:")
        for address in re.findall(r'(?:src|href)="([^"#]+)"', text):
            self.assertEqual(get(f"/{address}").status, 200, address)

    def test_policy(self) -> None:
        """P06: only the daemon's own scripts and styles run, nothing inline, and text cannot become HTML."""
        found = policy(get("/"))
        self.assertEqual(
            {name: found[name] for name in ("default-src", "script-src", "style-src", "connect-src", "base-uri")},
            {"default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'",
             "base-uri": "'none'"},
        )  # fmt: skip
        self.assertEqual((found["form-action"], found["require-trusted-types-for"]), ("'none'", "'script'"))
        self.assertNotIn("unsafe", str(found))

    def test_frames(self) -> None:
        """Nobody may hold the page in a frame but the origins of [server] frame_ancestors, and the page knows them."""
        self.assertEqual(policy(get("/"))["frame-ancestors"], "'none'")
        self.assertEqual(get("/web.json").json, {"version": __version__, "embedders": []})
        site = site_of(WebConsole((PANEL, "http://127.0.0.1:3000")))
        self.assertEqual(policy(get("/", site=site))["frame-ancestors"], f"{PANEL} http://127.0.0.1:3000")
        self.assertEqual(get("/web.json", site=site).json["embedders"], [PANEL, "http://127.0.0.1:3000"])
        self.assertEqual(policy(get("/health/nothing", site=site))["frame-ancestors"], "'none'")

    def test_headers(self) -> None:
        """It is not sniffed, sends no referrer, shares no window group, and lets nobody ask for devices."""
        headers = get("/").headers
        self.assertEqual(headers["x-content-type-options"], "nosniff")
        self.assertEqual(headers["referrer-policy"], "no-referrer")
        self.assertEqual(headers["cross-origin-opener-policy"], "same-origin")
        self.assertIn("camera=()", headers["permissions-policy"])
        self.assertEqual(headers["cache-control"], "no-cache")

    def test_policy_takes_no_more_than_origins(self) -> None:
        """What is in frame-ancestors is what was given, each once, and ends there."""
        self.assertIn("frame-ancestors https://a https://b; ", content_security_policy(("https://a", "https://b")))


class TheFiles(SynchronousTestCase):
    """`GET /web/{digest}/…`."""

    def test_every_file(self) -> None:
        """Each file of the folder is there with its type, for ever, and has a gzip that is the same."""
        types = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
        there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
        self.assertEqual(set(WEB.files), there - {"index.html"})
        for name in WEB.files:
            target = f"/web/{WEB.digest}/{name}"
            plain, packed = get(target), get(target, Accept_Encoding="gzip, br")
            self.assertEqual((plain.status, plain.body), (200, (FOLDER / name).read_bytes()), name)
            self.assertEqual(
                plain.headers["content-type"].partition(";")[0], types.get(Path(name).suffix, "text/plain")
            )
            self.assertEqual(plain.headers["cache-control"], "public, max-age=31536000, immutable")
            self.assertEqual(gzip.decompress(packed.body), plain.body)
            self.assertEqual(packed.headers["content-encoding"], "gzip")
            self.assertEqual(packed.headers["vary"], "Accept-Encoding")

    def test_gzip_only_where_it_is_taken(self) -> None:
        """Without the word, or with its quality at 0, the file comes as it is."""
        for words in ("", "br", "gzip;q=0", "gzip; q=0.000", "xgzip"):
            self.assertNotIn("content-encoding", get("/", Accept_Encoding=words).headers, words)
        for words in ("gzip", "br, GZIP;q=0.5", "gzip;q=1"):
            self.assertEqual(get("/", Accept_Encoding=words).headers["content-encoding"], "gzip", words)

    def test_etag(self) -> None:
        """Whoever has it already gets 304 and no body; packed and plain have different tags."""
        tag = get("/").headers["etag"]
        packed = get("/", Accept_Encoding="gzip").headers["etag"]
        self.assertNotEqual(tag, packed)
        for value in (tag, f'"x", {tag}', f"W/{tag}", "*"):
            got = get("/", If_None_Match=value)
            self.assertEqual((got.status, got.body), (304, b""), value)
            self.assertNotIn("content-length", got.headers)
            self.assertEqual((got.headers["etag"], got.headers["cache-control"]), (tag, "no-cache"))
        self.assertEqual(get("/", If_None_Match=packed).status, 200)
        self.assertEqual(get("/", Accept_Encoding="gzip", If_None_Match=packed).status, 304)

    def test_head(self) -> None:
        """HEAD says how long it is."""
        got = get(f"/web/{WEB.digest}/app.js", "HEAD")
        self.assertEqual((got.status, got.headers["content-length"]), (200, str(len((FOLDER / "app.js").read_bytes()))))

    def test_other_methods(self) -> None:
        """Nothing here takes anything."""
        for method in ("POST", "PUT", "DELETE"):
            self.assertEqual(get("/", method).status, 405)
            self.assertEqual(get(f"/web/{WEB.digest}/app.js", method).status, 405)

    def test_nothing_else(self) -> None:
        """No other digest, no folder, no way up, however it is written: 404 in JSON."""
        own = f"/web/{WEB.digest}"
        for target in (
            "/web", "/web/", "/web/app.js", own, f"{own}/", f"{own}/parts", f"{own}/parts/", f"{own}/index.html",
            f"{own}/nothing.js", "/web/0000/app.js", f"{own}/../{WEB.digest}/app.js", f"{own}/%2e%2e/app.js",
            f"{own}/parts%2fpage.js", f"{own}/../../../site_web.py", f"{own}/..%2f..%2fsite_web.py", f"{own}//app.js",
            f"{own}/app.js/", f"{own}/app.js/x", f"{own}/%00", f"{own}/%ff", "/index.html", "/app.js", "/web.json/x",
        ):  # fmt: skip
            got = get(target)
            self.assertEqual((got.status, got.json["error"]["code"]), (404, "not_found"), target)

    def test_digest(self) -> None:
        """A changed file changes every address, so no browser mixes two versions."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "index.html").write_text('<script src="web/app.js">')
        (folder / "app.js").write_text("1")
        before = WebConsole(folder=folder).digest
        (folder / "app.js").write_text("2")
        self.assertNotEqual(before, WebConsole(folder=folder).digest)


class TheSources(SynchronousTestCase):
    """What the files say."""

    def own(self) -> dict[str, str]:
        paths = [path for path in FOLDER.rglob("*") if path.is_file() and "vendor" not in path.parts]
        return {path.relative_to(FOLDER).as_posix(): path.read_text() for path in paths}

    def test_no_address_outside(self) -> None:
        """No file of ours names an address outside the daemon; the one exception is the name space of SVG."""
        for name, text in self.own().items():
            text = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
            self.assertIsNone(re.search(r"(?:https?|wss?|ftp):\\?/\\?/\w", text), name)
            self.assertIsNone(re.search(r"""["'(=]\s*//\w""", text), name)

    def test_vendor_asks_for_nothing(self) -> None:
        """What is not ours loads nothing: no source map, no import, no address in a style."""
        for path in (FOLDER / "vendor").glob("*.*"):
            self.assertIsNone(re.search(r"sourceMappingURL|^import |import\(|url\(|@import", path.read_text()), path)

    def test_no_html_from_text(self) -> None:
        """P06: no file of ours makes HTML or code out of a string."""
        forbidden = (
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\b|new Function"
        )
        for name, text in self.own().items():
            self.assertIsNone(re.search(forbidden, text), name)

    def test_tokens_are_not_stored(self) -> None:
        """Only one file stores anything, and the ones that hold tokens do not use it."""
        for name, text in self.own().items():
            if name != "parts/storage.js":
                self.assertIsNone(re.search(r"localStorage|sessionStorage|document\.cookie|indexedDB", text), name)
        for name in ("parts/connection.js", "parts/access.js", "parts/embed.js", "parts/api.js", "core/token.js"):
            self.assertNotIn("storage.js", self.own()[name])

    def test_imports_lead_somewhere(self) -> None:
        """Each module's imports are files that are served; those of core/ know no page."""
        for name, text in self.own().items():
            for target in re.findall(r'^import (?:[^"\n]* from )?"([^"]+)";', text, re.MULTILINE):
                found = (FOLDER / name).parent / target
                self.assertTrue(found.is_file(), f"{name} imports {target}")
            if name.startswith("core/"):
                self.assertIsNone(
                    re.search(r"\bdocument\.|\bwindow\.|\bsetTimeout\(|Date\.now|Math\.random", text), name
                )

    def test_sizes(self) -> None:
        """Each file has one job, so none is long."""
        for name, text in self.own().items():
            self.assertLess(text.count("\n"), 401, name)

    def test_ids_are_told(self) -> None:
        """The list at the top of index.html, by which tests and panels find things, holds every id and no other."""
        text = self.own()["index.html"]
        told = set(re.findall(r"#([a-z][a-z-]*)", text.partition("<!--")[2].partition("-->")[0]))
        there = set(re.findall(r'\sid="([a-z-]+)"', text)) - set(re.findall(r'<symbol id="([a-z-]+)"', text))
        self.assertEqual(told - there, set())
        told_of_controls = {
            found for tag in re.findall(r"<(?:button|input|dialog)\b[^>]*>", text)
            for found in re.findall(r'\sid="([a-z-]+)"', tag)
        }  # fmt: skip
        self.assertEqual(told_of_controls - told, set())


class TheVendor(SynchronousTestCase):
    """What comes from npm."""

    def test_sums(self) -> None:
        """The committed files are those that script/vendor-web took, no fewer and no more."""
        lines = [line.split("  ") for line in (ROOT / "web/sha256sums").read_text().splitlines()]
        told = {name: total for total, name in lines}
        there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FOLDER / "vendor").iterdir()}
        self.assertEqual(there, told)

    def test_pins(self) -> None:
        """Each package is pinned to one version and its hash, with its licence beside it; no registry is named."""
        wanted = json.loads((ROOT / "web/package.json").read_text())["dependencies"]
        lock = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
        for name, version in wanted.items():
            pinned = lock[f"node_modules/{name}"]
            self.assertRegex(version, r"^\d+\.\d+\.\d+$")
            self.assertEqual(pinned["version"], version)
            self.assertRegex(pinned["integrity"], "^sha512-")
            self.assertNotIn("resolved", pinned)
            licence = (FOLDER / "vendor" / f"{name.removeprefix('@xterm/')}.LICENSE.txt").read_text()
            self.assertIn("Permission is hereby granted", licence)
