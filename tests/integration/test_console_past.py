"""Search, downloads and marked runs of a real daemon with a real container, over HTTP on a real port."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
import urllib.request
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import NodeProcess

MB = 1 << 20
# Says what is typed; `flood N` prints N bytes of lines, `slow` three lines a third of a second apart.
TALKER = r"""
echo loading; echo Done
while read -r line; do
  case "$line" in
    stop) echo bye; exit 0;;
    crash) printf '\033[31mlast words\033[0m\n'; exit 3;;
    later) sleep 2; echo 'dying words'; exit 4;;
    slow) echo one; sleep 0.3; echo two; sleep 0.3; echo three;;
    flood*) yes 'the quick brown fox jumps over the lazy dog' | head -c ${line#flood }; echo; echo 'all 'out;;
    *) echo "you said $line";;
  esac
done
"""


class PastTests(SynchronousTestCase):
    """One node with srv_1."""

    def setUp(self) -> None:
        self.node = NodeProcess()
        self.addCleanup(self.node.close)
        self.node.start()
        self.node.create("srv_1", TALKER)

    def get(self, what: str, server_id: str = "srv_1") -> tuple[int, Any, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.node.port}/api/v1/servers/{server_id}/console/{what}",
            headers={"Authorization": f"Bearer {self.node.token('srv_1')}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def viewer(self) -> Any:
        viewer = self.node.console("srv_1")
        self.addCleanup(viewer.close)
        return viewer

    def test_search_and_download(self) -> None:
        """What was typed and said is found and handed out, and the recording has the true times."""
        viewer = self.viewer()
        viewer.type(b"hello there\r")
        viewer.until(b"you said hello there")
        viewer.type(b"slow\r")
        viewer.until(b"three")
        page = json.loads(self.get("search?q=HELLO+THERE")[2])
        self.assertEqual([found["line"] for found in page["matches"]], ["you said hello there", "hello there"])
        self.assertTrue(all(abs(found["timestamp"] - time.time()) < 60 for found in page["matches"]))
        _, headers, text = self.get("download")
        self.assertIn(b"loading\nDone\nhello there\nyou said hello there\nslow\none\ntwo\nthree\n", text)
        self.assertIn('attachment; filename="srv_1-', headers["content-disposition"])
        header, *events = [json.loads(line) for line in self.get("download?format=asciinema")[2].splitlines()]
        self.assertEqual((header["version"], header["width"], header["height"]), (2, 80, 24))
        said = [
            (at, word) for at, code, text in events if code == "o" for word in re.findall(r"\b(one|two|three)\b", text)
        ]
        self.assertEqual([word for _, word in said], ["one", "two", "three"])
        for (before, _), (after, _) in zip(said, said[1:], strict=False):  # noqa: RUF007
            self.assertGreaterEqual(after - before, 0.25)
        self.assertEqual([event[2] for event in events if event[1] == "m"], ["started"])
        self.assertEqual(self.get("search?q=x", "srv_2")[0], 403)

    def test_runs_over_a_kill(self) -> None:
        """A crash while the daemon is away: its last words, where it ended and how are in the console afterwards."""
        viewer = self.viewer()
        viewer.type(b"crash\r")
        self.node.until(lambda: self.node.events("server.status", status="crashed"), 20, "the crash")
        self.node.run("server.start", serverId="srv_1")
        viewer.until(b"Done\r\n")
        viewer.type(b"later\r")
        viewer.until(b"later")
        time.sleep(0.3)
        self.node.kill()
        time.sleep(3)
        self.node.start()
        self.node.until(lambda: len(self.node.events("server.status", status="crashed")) == 2, 20, "the second crash")
        self.node.until(lambda: b"dying words" in self.get("download")[2], 10, "the last words")
        text = self.get("download")[2].decode()
        self.assertNotIn("missing", text)
        self.assertEqual((text.count("last words"), text.count("dying words"), text.count("later")), (1, 1, 1))
        again = self.node.console("srv_1", "?since=0")
        self.addCleanup(again.close)
        runs = again.frame("ready")["runs"]
        self.assertEqual([(run["event"], run.get("exitCode")) for run in runs],
                         [("started", None), ("crashed", 3), ("started", None), ("crashed", 4)])  # fmt: skip
        size = again.frame("ready")["end"]
        self.assertEqual((runs[-1]["offset"], runs[1]["offset"]), (size, runs[2]["offset"]))

    def test_a_reader_that_stops(self) -> None:
        """A download that nobody reads, and searches that come and go under a flood, cost no memory and no echo."""
        viewer = self.viewer()
        viewer.type(b"flood 30000000\r")
        viewer.until(b"all out\r\n", 60)
        viewer.output = b""
        stalled = []
        head = "GET /api/v1/servers/srv_1/console/download HTTP/1.1\r\nHost: n\r\n"
        head += f"Authorization: Bearer {self.node.token('srv_1')}\r\n\r\n"
        for _ in range(4):
            stalled.append(socket.create_connection(("127.0.0.1", self.node.port)))
            self.addCleanup(stalled[-1].close)
            stalled[-1].sendall(head.encode())
        self.node.until(lambda: self.get("download")[0] == 429, 10, "the fifth download to be refused")
        page = json.loads(self.get("search?q=quick&limit=1000")[2])
        self.assertEqual((len(page["matches"]), page["more"]), (1000, True))
        nothing = json.loads(self.get("search?q=no+such+words")[2])
        self.assertEqual((nothing["matches"], nothing["more"]), ([], False))
        for number in range(20):
            viewer.type(b"round %d\r" % number)
            viewer.until(b"you said round %d\r\n" % number, 10)
        self.assertLess(self.node.rss(), 150 * MB)
        stalled[0].close()
        self.node.until(lambda: self.get("download?to=1")[0] == 200, 10, "room for another")
