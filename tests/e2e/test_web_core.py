"""The web console's rules without a page (stellarstack/api/web/core/), in a browser and without a daemon."""

from __future__ import annotations

import atexit
import json
from functools import cache
from typing import Any

from playwright.sync_api import Page, Route, sync_playwright
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.api.site_web import FOLDER
from tests.e2e.browser import CHROMIUM, FLAGS

ORIGIN = "http://core.invalid"


def serve(route: Route) -> None:
    name = route.request.url.removeprefix(f"{ORIGIN}/")
    body = (FOLDER / name).read_text() if name else "<!doctype html><title>core</title>"
    route.fulfill(body=body, content_type="text/javascript" if name else "text/html")


@cache
def empty_page() -> Page:
    """One browser for all tests here; it ends with the process."""
    if CHROMIUM is None:
        raise AssertionError("no chromium: apt-get install chromium (script/bootstrap test does)")
    driver = sync_playwright().start()
    atexit.register(driver.stop)
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
    atexit.register(browser.close)
    page = browser.new_page()
    page.route(f"{ORIGIN}/**", serve)
    page.goto(f"{ORIGIN}/")
    return page


class WebCore(SynchronousTestCase):
    """Each test runs a function in the page, with the modules it names."""

    def setUp(self) -> None:
        self.page = empty_page()

    def run_js(self, modules: str, body: str, given: Any = None) -> Any:
        """`body` sees `given` and the exports of `modules` (names in core/) as `m`; answers what it returns."""
        loads = "".join(f"Object.assign(m, await import('{ORIGIN}/core/{name}.js'));" for name in modules.split())
        answer = self.page.evaluate(f"async (given) => {{ const m = {{}}; {loads} {body} }}", given)
        return json.loads(json.dumps(answer))

    def test_backoff(self) -> None:
        """It doubles from half a second to 30, half of it by chance, so that viewers come back apart."""
        found = self.run_js(
            "backoff", "return [0, 1, 2, 6, 9, 99].map(n => [m.delayAfter(n, () => 0), m.delayAfter(n, () => 1)]);"
        )
        self.assertEqual(found, [[0.25, 0.5], [0.5, 1], [1, 2], [15, 30], [15, 30], [15, 30]])

    def test_tokens_in_text(self) -> None:
        """A token is found in a fragment, a link or bare; anything else is none."""
        rows = [
            ("#token=strk_console_a.b-1.c_", "strk_console_a.b-1.c_"), ("https://n/#token=a.b.c", "a.b.c"),
            (" strk_console_a.b.c\n", "strk_console_a.b.c"), ("#x=1&token=a.b.c", "a.b.c"), ("#token=a%2Eb.c", "a.b.c"),
            ("", None), ("#", None), ("a.b", None), ("#token=<b>.b.c", None), ("javascript:a.b.c", None),
            ("x" * 20000, None),
        ]  # fmt: skip
        found = self.run_js("token", "return given.map(text => m.tokenIn(text));", [text for text, _ in rows])
        self.assertEqual(found, [token for _, token in rows])

    def test_permissions(self) -> None:
        """Both shapes of the claim; what is neither allows nothing."""
        rows: list[tuple[Any, list[str]]] = [
            (["console.read", 3], ["console.read"]), ({"canRead": True}, ["console.read", "stats.read"]),
            ({"canWrite": True}, ["console.read", "console.write", "stats.read"]), ({"canRead": "yes"}, []), (None, []),
        ]  # fmt: skip
        found = self.run_js(
            "token", "return given.map(c => [...m.permissionsOf(c)].sort());", [claim for claim, _ in rows]
        )
        self.assertEqual(found, [names for _, names in rows])

    def test_addresses(self) -> None:
        """The socket lies beside the page, under a proxy's path too; `since` stands in for `scrollback`."""
        found = self.run_js("frames", """return [
            m.consoleAddress("http://n:1/", {since: null, scrollback: 5}),
            m.consoleAddress("https://p/node1/#x", {since: 0, scrollback: 5})];""")  # fmt: skip
        self.assertEqual(found, ["ws://n:1/console?scrollback=5", "wss://p/node1/console?since=0"])

    def test_position(self) -> None:
        """Bytes are counted over gaps, so that the next session resumes at the very next byte."""
        found = self.run_js("frames", """const p = new m.Position(); const said = [];
            said.push(p.end, p.begin(100), p.took(10), p.end, p.gap(110, 150), p.took(5), p.gap(155, null),
              p.end, p.begin(160), p.end);
            return said;""")  # fmt: skip
        self.assertEqual(found, [None, None, 100, 110, 40, 150, None, 155, None, 160])

    def test_backlog(self) -> None:
        """What the terminal cannot keep up with is counted, and its newest end comes as soon as it can."""
        found = self.run_js("backlog", """const b = new m.Backlog({most: 100, tail: 30}); const said = [];
            for (let n = 0; n < 12; n += 1) { const bytes = new Uint8Array(20); bytes[0] = n;
              const now = b.admits(bytes, n * 20); if (now) b.given(20); said.push(now); }
            said.push(b.drew(40), b.drew(40));
            const {kept, passed} = b.drew(20);
            said.push(passed, kept.map(k => [k.offset, k.bytes[0]]), b.admits(new Uint8Array(1), 240), b.drew(20));
            return said;""")  # fmt: skip
        self.assertEqual(found, [True] * 6 + [False] * 6 + [None, None, 80, [[200, 10], [220, 11]], True, None])

    def test_long_texts(self) -> None:
        """A long paste goes out in pieces that are the text; line ends become Enter."""
        found = self.run_js("frames", """const text = "é".repeat(5000); const pieces = m.keysOf(text, 4096);
            const all = new TextDecoder().decode(new Uint8Array(pieces.flatMap(p => [...p])));
            return [pieces.map(p => p.length), all === text, m.asTyped("a\\r\\nb\\nc")];""")  # fmt: skip
        self.assertEqual(found, [[4096, 4096, 1808], True, "a\rb\rc\r"])

    def test_walking(self) -> None:
        """Walking back to the beginning and forward again shows every byte once, few at a time."""
        found = self.run_js("pages", """
            let seed = given; const random = n => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
            const all = new Uint8Array(900000).map(() => random(40) ? 97 + random(20) : 10);
            for (let at = 300000; at < 500000; at += 1) all[at] = 98; // a line longer than a page
            const first = 1234;
            const ask = (before, limit) => {
              const end = Math.min(before, all.length), from = Math.max(first, end - limit);
              return {from, end, bytes: all.slice(from, end)};
            };
            const w = new m.Window(); let most = 0; const faults = [];
            const check = () => {
              most = Math.max(most, w.pages.reduce((sum, p) => sum + p.bytes.length, 0));
              let at = w.from;
              for (const p of w.pages) { if (p.from !== at) faults.push(["hole", at, p.from]); at += p.bytes.length; }
              const [one, two] = w.splitAt(w.from + 7000);
              const joined = [...one, ...two].flatMap(p => [...p]);
              if (joined.some((byte, i) => byte !== all[w.from + i])) faults.push(["bytes", w.from]);
            };
            const start = ask(all.length, m.PAGE); w.replace(m.lastLines(start, {whole: start.from <= first}));
            let steps = 0, covered = w.from;
            while (w.from > first && steps++ < 200) {
              const page = ask(w.from, m.PAGE);
              w.prepend(m.lastLines(page, {whole: page.from <= first})); check();
              if (w.from >= covered) { faults.push(["stuck", covered]); break; }
              covered = w.from;
            }
            const back = w.from;
            while (w.end < all.length && steps++ < 400) {
              const seam = w.end, page = ask(seam + m.PAGE, m.PAGE), rest = m.fromOffset(page, seam);
              if (!rest) { faults.push(["nothing", seam]); break; }
              w.append(m.firstLines(rest, {whole: page.end < seam + m.PAGE})); check();
              if (w.end <= seam) { faults.push(["stuck", seam]); break; }
            }
            return {faults, back, end: w.end, bounded: most <= m.PAGES * m.PAGE};""", 7)  # fmt: skip
        self.assertEqual(found, {"faults": [], "back": 1234, "end": 900000, "bounded": True})

    def test_lines(self) -> None:
        """Earlier lines come back newest first, those that begin as the draft does; secrets begin with a space."""
        found = self.run_js("lines", """const l = new m.Lines(["say a", "list"]);
            l.sent("say b"); l.sent("list"); l.sent(" secret"); l.sent("x".repeat(2000));
            return [l.all, l.older("say"), l.older(""), l.older(""), l.newer(), l.newer(), l.newer(),
              l.completion("sa"), l.completion("say b"), l.completion(""),
              new m.Lines(Array.from({length: 999}, (_, n) => `c${n}`)).all.length];""")  # fmt: skip
        self.assertEqual(
            found,
            [["say a", "say b", "list"], "say b", "say a", None, "say b", "say", None, "say b", "", "", 300],
        )

    def test_series(self) -> None:
        """Five minutes are kept; a counter that begins anew is no negative rate; a break is not drawn over."""
        found = self.run_js("series", """const s = new m.Series(); for (let t = 0; t <= 400; t += 1) s.add(t, t);
            const r = new m.Rate();
            const rates = [r.of(0, 100), r.of(2, 300), r.of(3, 50), r.of(4, 60), r.of(5, NaN), r.of(6, 9)];
            const b = new m.Series(); b.add(0, 1); b.breakOff(1); b.breakOff(2); b.add(3, 2);
            return [s.bounds(), rates, b.paths(3, 2).line.split("M").length - 1, b.last,
              [0, 999, 1024, 1536, 10240, 1e6, 5e9].map(m.bytes), [0, 9.96, 250].map(m.percent),
              [0, 59, 60, 3725, 90000].map(m.duration)];""")  # fmt: skip
        self.assertEqual(found[:4], [{"least": 100, "most": 400}, [None, 100, None, 10, None, None], 2, 2])
        self.assertEqual(found[4], ["0 B", "999 B", "1.00 KB", "1.50 KB", "10.0 KB", "977 KB", "4.66 GB"])
        self.assertEqual(found[5:], [["0.0 %", "10 %", "250 %"], ["0 s", "59 s", "1 min", "1 h 2 min", "1 d 1 h"]])

    def test_runs(self) -> None:
        """Runs stand among the bytes at their place, on a line of their own, and change no byte."""
        found = self.run_js("runs", """const bytes = new TextEncoder().encode("one\\ntwo\\n");
            const runs = [{offset: 104, event: "started"}, {offset: 102, event: "crashed",
              exitCode: 137, reason: "oom"},
                          {offset: 99, event: "exited"},
              {offset: 108, event: "exited", exitCode: 0}, {offset: 103, event: "?"}];
            const read = p => typeof p === "string" ? p.replace(/\\x1b\\[\\d+m/g, "") : new TextDecoder().decode(p);
            return m.weave(bytes, 100, runs).map(read);""")  # fmt: skip
        crash = "\r\n── crashed (out of memory), exit code 137 ──\r\n"
        self.assertEqual(found, ["on", crash, "e\n", "── started ──\r\n", "two\n", "── ended, exit code 0 ──\r\n"])

    def test_runs_in_status_frames(self) -> None:
        """An end is told with its code, reason and time; a stop that was not obeyed and an installation are no run."""
        end = {"at": 7.5, "exitCode": 3, "reason": "exit"}
        rows: list[tuple[dict[str, Any], str, Any]] = [
            ({"status": "starting"}, "stopped", "started"), ({"status": "starting"}, "crashed", "started"),
            ({"status": "starting"}, "stopping", None), ({"status": "starting"}, "starting", None),
            ({"status": "crashed", **end}, "running", {"event": "crashed", **end}),
            ({"status": "stopped", **end}, "stopping", {"event": "exited", **end}),
            ({"status": "stopped"}, "installing", None), ({"status": "running"}, "starting", None),
        ]  # fmt: skip
        found = self.run_js(
            "runs",
            "return given.map(([frame, before]) => { const r = m.runOf(frame, before);"
            " return r?.event === 'started' ? 'started' : r; });",
            [row[:2] for row in rows],
        )
        self.assertEqual(found, [row[2] for row in rows])

    def test_ends_of_a_connection(self) -> None:
        """What needs another token says so; what passes is tried again; an impossible resume begins afresh."""
        codes = [4401, 4403, 4404, 4410, 1013, 1001, 1006, 1008]
        found = self.run_js("closing", "return given.map(c => m.meaningOf(c).then);", codes)
        self.assertEqual(found, ["token"] * 4 + ["slowly", "again", "again", "slowly"])
        self.assertEqual(self.run_js("closing", "return m.meaningOf(1008, 'invalid_request: since').then;"), "afresh")
