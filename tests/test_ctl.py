"""stellarctl's words: what they ask of the node, what they show, and how they fail."""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.claims import PERMISSIONS
from stellarstack.ctl import output
from stellarstack.ctl.arguments import Usage, parser, port, send_payload
from stellarstack.ctl.control import ControlSocket, Refused
from stellarstack.ctl.main import Control, main
from tests.ctl_fakes import Answer, UnixHttp


class CtlCase(SynchronousTestCase):
    """A daemon's control socket with scripted answers."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        # the path of a UNIX socket is short; trial's folders are not
        self.path = Path(f"/tmp/ctl-{id(self)}-{time.monotonic_ns()}.sock")
        self.addCleanup(self.path.unlink, missing_ok=True)
        self.out, self.err = io.StringIO(), io.StringIO()

    def daemon(self, answers: dict[str, Any]) -> UnixHttp:
        self.path.unlink(missing_ok=True)
        server = UnixHttp(self.path, answers)
        self.addCleanup(server.stop)
        return server

    def ctl(self, *words: str) -> int:
        options = parser().parse_args(["--socket", str(self.path), *words])
        return Control(options, {}, self.out, self.err).run()

    def command(
        self, result: dict[str, Any], *words: str, status: str = "succeeded", before: Any = ()
    ) -> dict[str, Any]:
        """Runs `words` against a daemon that answers with this result; what it was asked."""

        def answer(body: Any) -> Answer:
            told = {"type": "command.result", "commandId": body["id"], "status": status, **result}
            return 200, ({"type": "command.ack", "commandId": body["id"]}, *before, told)

        daemon = self.daemon({"POST /v1/commands": answer})
        self.assertEqual(self.ctl(*words), 0)
        asked = daemon.asked[0][1]
        self.assertTrue(asked["id"].startswith("ctl_"))
        self.assertLess(abs(asked["timestamp"] - time.time()), 60)
        return dict(asked)


class TestServers(CtlCase):
    """`stellarctl server …`"""

    def test_verbs(self) -> None:
        """Each verb sends its command."""
        rows: list[tuple[list[str], str, dict[str, Any]]] = [
            (["start", "s"], "server.start", {}),
            (["stop", "s"], "server.stop", {}),
            (["stop", "s", "--grace", "5"], "server.stop", {"timeout": 5.0}),
            (["restart", "s", "--grace", "0"], "server.restart", {"timeout": 0.0}),
            (["kill", "s"], "server.kill", {}),
            (["delete", "s"], "server.delete", {"deleteFiles": True, "deleteBackups": False}),
            (["delete", "s", "--keep-files", "--delete-backups"], "server.delete",
             {"deleteFiles": False, "deleteBackups": True}),
        ]  # fmt: skip
        for words, kind, more in rows:
            asked = self.command({"result": {"status": "stopped"}}, "server", *words)
            self.assertEqual((asked["type"], asked["payload"]), (kind, {"serverId": "s", **more}))
            self.doCleanups()
        self.assertIn("status  stopped\n", self.out.getvalue())

    def test_create(self) -> None:
        """Limits, ports and variables go into `config`; a blueprint's file is sent along."""
        blueprint = self.folder / "echo.json"
        blueprint.write_text('{"id": "echo"}')
        words = (
            f"server create s -b {blueprint} --name Echo --version 2 --memory 512 --swap 0 --cpu 1.5 --disk 1024"
            " --pids 64 -p 25565 -p 8080:80/tcp -e MOTD=a=b -e X= --no-start --skip-install"
        )
        ports = [25565, {"host": 8080, "container": 80, "protocol": "tcp"}]
        asked = self.command({"result": {"ports": ports, "containerId": "abc"}}, *words.split())
        self.assertEqual(
            asked["payload"],
            {
                "serverId": "s", "blueprint": {"id": "echo"}, "name": "Echo", "version": "2", "start": False,
                "skipInstall": True, "config": {
                    "memory": 512, "swap": 0, "cpu": 1.5, "disk": 1024, "pids": 64,
                    "ports": ports, "env": {"MOTD": "a=b", "X": ""},
                },
            },
        )  # fmt: skip
        self.assertIn("25565, 8080->80/tcp", self.out.getvalue())
        self.assertNotIn("abc", self.out.getvalue())

    def test_create_by_id(self) -> None:
        """An installed blueprint is named, and nothing is said that the operator did not say."""
        asked = self.command({"result": {}}, "server", "create", "s", "-b", "openttd")
        self.assertEqual(asked["payload"], {"serverId": "s", "blueprint": "openttd", "config": {}})
        self.assertIn("done", self.out.getvalue())

    def test_blueprint_files(self) -> None:
        """A file that is missing, unreadable or no object is told before anything is sent; YAML and TOML are read."""
        for name, text, told in (
            ("none.json", None, "No such file"),
            ("bad.json", "{", "cannot be read as a blueprint"),
            ("list.json", "[]", ""),
            ("big.json", " " * (2**20 + 1), "over 1048576 bytes"),
        ):
            path = self.folder / name
            if text is not None:
                path.write_text(text)
            error = self.assertRaises(Usage, self.ctl, "server", "create", "s", "-b", str(path))
            self.assertIn(told, str(error))
        for name, text in (("a.yaml", "id: echo"), ("a.toml", 'id = "echo"')):
            (self.folder / name).write_text(text)
            asked = self.command({"result": {}}, "server", "create", "s", "-b", str(self.folder / name))
            self.assertEqual(asked["payload"]["blueprint"], {"id": "echo"})
            self.doCleanups()

    def test_ports(self) -> None:
        """Ports in every spelling, and what is none."""
        both = {"host": 8080, "container": 80, "protocol": "both"}
        rows: list[tuple[str, Any]] = [
            ("25565", 25565),
            ("25565/udp", {"host": 25565, "container": 25565, "protocol": "udp"}),
            ("8080:80", both),
            ("192.0.2.1:8080:80", {**both, "ip": "192.0.2.1"}),
            ("192.0.2.1:25565", {"host": 25565, "container": 25565, "protocol": "both", "ip": "192.0.2.1"}),
            ("[2001:db8::1]:8080:80", {**both, "ip": "2001:db8::1"}),
        ]
        for text, expected in rows:
            self.assertEqual(port(text), expected, text)
        for text in ("0", "65536", "x", "80:", "80:0", "80/sctp", "1:2:3:4", ""):
            self.assertRaises(argparse.ArgumentTypeError, port, text)

    def test_list(self) -> None:
        """A table for people, without what a terminal would obey; JSON for programs; an empty node has a heading."""
        rows = [
            {"serverId": "s", "status": "running", "ports": [25565, {"host": 1, "container": 2, "protocol": "udp"}],
             "name": "A\x1b[2Jb"},
            {"serverId": "longer", "status": "stopped", "ports": []},
            {"serverId": "waits", "status": "running", "ports": [7], "pendingPorts": [8]},
        ]  # fmt: skip
        self.daemon({"GET /v1/servers": (200, {"servers": rows})})
        self.assertEqual(self.ctl("server", "list"), 0)
        lines = self.out.getvalue().splitlines()
        self.assertEqual(lines[0].split(), ["SERVER", "STATUS", "PORTS", "NAME"])
        self.assertEqual(lines[1].split(None, 2)[:2], ["s", "running"])
        self.assertIn("25565, 1->2/udp", lines[1])
        self.assertNotIn("\x1b", self.out.getvalue())
        self.assertEqual(lines[2].split(), ["longer", "stopped", "-", "-"])
        self.assertIn("7 (from the next start: 8)", lines[3])
        self.out.truncate(0)
        self.out.seek(0)
        self.ctl("server", "list", "--json")
        self.assertEqual(json.loads(self.out.getvalue()), rows)

    def test_refused(self) -> None:
        """A refusal is one line with command, status, code and message; with --json it is the event, and status 1."""
        error = {"error": {"code": "server_not_found", "message": "there is no server s"}}
        found = self.assertRaises(Refused, self.command, error, "server", "start", "s", status="rejected")
        self.assertEqual(str(found), "server.start rejected: server_not_found: there is no server s")
        self.assertEqual(self.ctl("server", "start", "s", "--json"), 1)
        self.assertEqual(json.loads(self.out.getvalue())["error"]["code"], "server_not_found")
        self.doCleanups()
        found = self.assertRaises(Refused, self.command, {}, "server", "kill", "s", status="failed")
        self.assertEqual(str(found), "server.kill failed: no reason given")

    def test_progress(self) -> None:
        """While a person waits, steps and an install's output are shown."""
        self.patch(self.err, "isatty", lambda: True)
        before = (
            {"type": "deployment.progress", "step": "pulling_image", "progress": 40},
            {"type": "install.output", "data": "one\ntwo\x1b[2J"},
            {"type": "server.status", "status": "starting"},
        )
        self.command({"result": {}}, "server", "create", "s", "-b", "x", before=before)
        self.assertEqual(self.err.getvalue(), "pulling_image 40 %\n  one\n  two [2J\nstarting\n")

    def test_daemon_dies(self) -> None:
        """A daemon that ends before the result is told as such."""
        self.daemon({"POST /v1/commands": (200, ({"type": "command.ack"},))})
        self.assertIn("ended before the result", str(self.assertRaises(Refused, self.ctl, "server", "start", "s")))
        self.doCleanups()
        last = {"error": {"code": "unavailable", "message": "the daemon stops"}}
        self.daemon({"POST /v1/commands": (200, ({"type": "command.ack"}, last))})
        error = self.assertRaises(Refused, self.ctl, "server", "start", "s")
        self.assertEqual(str(error), "unavailable: the daemon stops")


class TestOtherWords(CtlCase):
    """send, token, events, node, redis-acl."""

    def test_send(self) -> None:
        """Any command, its payload from key=value words over a JSON object, with an id of one's own."""
        words = ("send", "server.command", "serverId=s", "command=say hi", "n=3", "--payload", '{"n": 1, "m": [2]}')
        asked = self.command({"result": {"a": 1}}, *words, "--json")
        self.assertEqual(asked["payload"], {"serverId": "s", "command": "say hi", "n": 3, "m": [2]})
        self.assertEqual(json.loads(self.out.getvalue())["result"], {"a": 1})
        self.doCleanups()
        asked_id = "ctl_mine"
        self.assertEqual(self.command({"result": None}, "send", "node.info", "--id", asked_id)["id"], asked_id)

    def test_send_from_stdin(self) -> None:
        """`--payload -` reads standard input."""
        self.patch(sys, "stdin", io.StringIO('{"serverId": "s"}'))
        self.assertEqual(self.command({"result": {}}, "send", "x", "--payload", "-")["payload"], {"serverId": "s"})

    def test_bad_payloads(self) -> None:
        """What is no payload is wrong usage."""
        for fields, whole in ((["a"], None), (["=b"], None), ([], "{"), ([], "[]")):
            self.assertRaises(Usage, send_payload, fields, whole)

    def test_token(self) -> None:
        """The token stands alone on its line, so a script can take it; JSON has its end as well."""
        minted = {"token": "strk_console_x", "expiresAt": 5}
        daemon = self.daemon({"POST /v1/tokens": (200, minted)})
        self.ctl("token", "mint", "s", "--user", "u", "--permission", "console.read", "--lifetime", "60")
        self.assertEqual(self.out.getvalue(), "strk_console_x\n")
        expected = {"serverId": "s", "userId": "u", "permissions": ["console.read"], "lifetime": 60}
        self.assertEqual(daemon.asked[0][1], expected)
        self.ctl("token", "mint", "s", "--json")
        self.assertEqual(daemon.asked[1][1], {"serverId": "s"})
        self.ctl("token", "mint", "s", "--all")
        self.assertEqual(daemon.asked[2][1], {"serverId": "s", "permissions": sorted(PERMISSIONS)})
        both = ["token", "mint", "s", "--all", "--permission", "console.read"]
        self.assertEqual(self.assertRaises(SystemExit, main, both).code, 2)
        self.assertIn("expiresAt", self.out.getvalue())

    def test_link(self) -> None:
        """With --link the token stands in a link to the web console; a --url without it is wrong usage."""
        self.daemon({"POST /v1/tokens": (200, {"token": "strk_console_x", "expiresAt": 5})})
        self.ctl("token", "mint", "s", "--link", "--url", "https://node.example/")
        self.assertEqual(self.out.getvalue(), "https://node.example/#token=strk_console_x\n")
        self.ctl("token", "mint", "s", "--link", "--url", "https://node.example", "--json")
        self.assertIn('"link"', self.out.getvalue())
        self.assertRaises(Usage, self.ctl, "token", "mint", "s", "--url", "https://node.example")

    def test_events(self) -> None:
        """New events, a line each or JSON; the past is Redis' business."""
        event = {"type": "server.status", "serverId": "s", "status": "running", "timestamp": 1.5, "seq": 3, "x": [1]}
        self.daemon({"GET /v1/events": (200, (event,))})
        self.assertIn("ended the stream", str(self.assertRaises(Refused, self.ctl, "events", "-f")))
        self.assertIn("server.status        s                status=running x=[1]", self.out.getvalue())
        self.assertRaises(Refused, self.ctl, "events", "-f", "--json")
        self.assertEqual(json.loads(self.out.getvalue().splitlines()[-1]), event)
        self.assertIn("add -f", str(self.assertRaises(Refused, self.ctl, "events")))

    def test_events_without_noise(self) -> None:
        """What comes all the time is left out, unless it is asked for by `--all` or by its name."""
        kinds = ["heartbeat", "server.metrics", "server.status", "server.log", "node.alert"]
        events = tuple({"type": kind, "timestamp": 1} for kind in kinds)
        rows: tuple[tuple[list[str], list[str]], ...] = (
            ([], ["server.status", "node.alert"]),
            (["--all"], kinds),
            (["--type", "server.metrics"], ["server.metrics"]),
            (["--type", "node.alert", "--type", "heartbeat"], ["heartbeat", "node.alert"]),
        )
        for words, expected in rows:
            self.daemon({"GET /v1/events": (200, events)})
            before = len(self.out.getvalue().splitlines())
            self.assertRaises(Refused, self.ctl, "events", "-f", "--json", *words)
            told = [json.loads(line)["type"] for line in self.out.getvalue().splitlines()[before:]]
            self.assertEqual(told, expected)
            self.doCleanups()

    def test_node(self) -> None:
        """The node's state and figures, nested ones by dotted names."""
        about = {
            "nodeId": "node_a",
            "state": "ONLINE",
            "checks": {"redis": True},
            "tags": ["a", {"b": 1}],
            "none": None,
        }
        self.daemon({"GET /v1/node": (200, about)})
        self.ctl("node", "info")
        lines = dict(line.split(None, 1) for line in self.out.getvalue().splitlines())
        self.assertEqual(lines, {"nodeId": "node_a", "state": "ONLINE", "checks.redis": "yes", "tags": 'a, {"b": 1}',
                                 "none": "-"})  # fmt: skip
        self.ctl("node", "info", "--json")
        self.assertEqual(json.loads(self.out.getvalue().splitlines()[-1]), about)

    def test_redis_acl(self) -> None:
        """R01: the line for Redis' ACL file is made of the config, with the token as its hash."""
        config = self.folder / "daemon.toml"
        config.write_text('[node]\nid = "node_a"\napi_token = "strk_node_canary"\n')
        self.ctl("redis-acl", "-c", str(config), "--sentinel")
        rule = self.out.getvalue()
        self.assertTrue(rule.startswith("user node_a reset on #"), rule)
        self.assertIn("+wait", rule)
        self.assertNotIn("canary", rule)
        self.ctl("redis-acl", "-c", str(config), "--json")
        self.assertEqual(json.loads(self.out.getvalue().splitlines()[-1])["nodeId"], "node_a")
        config.write_text("")
        self.assertRaises(Usage, self.ctl, "redis-acl", "-c", str(config))


class TestWays(CtlCase):
    """How the node is found, and what is said where it is not."""

    def test_socket_of_the_config(self) -> None:
        """Without --socket the config's is taken."""
        self.daemon({"GET /v1/servers": (200, [])})
        config = self.folder / "daemon.toml"
        config.write_text(f'[paths]\ncontrol_socket = "{self.path}"\n')
        options = parser().parse_args(["server", "list", "-c", str(config)])
        self.assertEqual(Control(options, {}, self.out, self.err).run(), 0)

    def test_main(self) -> None:
        """Errors are one line on standard error: status 1 for a refusal, 2 for wrong usage."""
        stderr = io.StringIO()
        self.patch(sys, "stderr", stderr)
        self.assertEqual(main(["--socket", "/nowhere.sock", "server", "list"]), 1)
        self.assertEqual(main(["server", "list", "--redis", "redis://h"]), 2)
        self.assertEqual(main(["token", "mint", "s", "--redis", "redis://h", "--node", "n"]), 2)
        self.assertEqual(main(["-c", str(self.folder / "none.toml"), "server", "list"]), 1)
        lines = stderr.getvalue().splitlines()
        self.assertEqual(len(lines), 4)
        self.assertTrue(all(line.startswith("stellarctl: ") for line in lines), lines)
        self.assertIn("no daemon answers at /nowhere.sock", lines[0])
        self.assertEqual(self.assertRaises(SystemExit, main, ["server"]).code, 2)
        self.assertEqual(self.assertRaises(SystemExit, main, ["token", "mint", "s", "--lifetime", "311"]).code, 2)

    def test_interrupted(self) -> None:
        """Ctrl-C ends with 130 and without a traceback."""

        def interrupt(self: Control) -> int:
            raise KeyboardInterrupt

        self.patch(Control, "run", interrupt)
        self.assertEqual(main(["server", "list"]), 130)

    def test_http_errors(self) -> None:
        """The daemon's own words where it has any; a status where it has none; a broken answer is told."""
        self.daemon(
            {
                "GET /a": (403, {"error": {"code": "forbidden", "message": "not you"}}),
                "GET /b": (500, b"<html>"),
                "GET /c": (200, b"{"),
                "GET /d": (200, b"{}\nx\n"),
            }
        )
        control = ControlSocket(self.path)
        error = self.assertRaises(Refused, control.get, "/a")
        self.assertEqual((str(error), error.answer), ("forbidden: not you", "forbidden"))
        self.assertIn("500", str(self.assertRaises(Refused, control.get, "/b")))
        self.assertIn("broke off", str(self.assertRaises(Refused, control.get, "/c")))
        self.assertIn("broke off", str(self.assertRaises(Refused, list, control.lines("GET", "/d"))))

    def test_socket_errors(self) -> None:
        """No socket, one that nobody listens on, and a path too long for one are told apart."""
        self.path.touch()
        self.assertIn("no daemon answers", str(self.assertRaises(Refused, ControlSocket(self.path).get, "/")))
        long = ControlSocket(Path("/" + "x" * 200))
        self.assertIn("AF_UNIX path too long", str(self.assertRaises(Refused, long.get, "/")))

    def test_silence(self) -> None:
        """--timeout bounds the wait for an answer."""

        def slow(body: Any) -> Answer:
            time.sleep(0.5)
            return 200, ()

        self.daemon({"POST /v1/commands": slow})
        error = self.assertRaises(Refused, self.ctl, "server", "start", "s", "--timeout", "0.05")
        self.assertIn("no answer within 0.05 s", str(error))


class TestOutput(SynchronousTestCase):
    """Tables and cells."""

    def test_plain(self) -> None:
        """Cells are short and hold nothing that a terminal obeys (P06)."""
        self.assertEqual(output.plain("a\x1b]0;x\x07b\u2028c"), "a ]0;x b c")
        self.assertEqual(output.plain("x" * 100), "x" * 59 + "…")
        self.assertEqual([output.plain(value) for value in (None, True, False, 3)], ["-", "yes", "no", "3"])

    def test_ports(self) -> None:
        """Ports as the node lists them."""
        self.assertEqual(output.ports_cell(None), "-")
        self.assertEqual(output.ports_cell([1, {"host": 2}]), "1, 2")

    def test_event_without_time(self) -> None:
        """An event that lacks what others have is shown all the same."""
        self.assertTrue(output.event_line({"type": "odd"}).startswith("--:--:--  odd"))
