"""What a server takes of its host: blueprints, ports, images, networks, config files, ready checks, install logs."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.messages import Json
from stellarstack.core.ports import PortMapping, clash_between
from stellarstack.errors import (
    BlueprintInvalid,
    DockerUnavailable,
    EngineConflict,
    InvalidPayload,
    PortInUse,
    StellarError,
)
from stellarstack.servers.blueprints import BlueprintShelf
from stellarstack.servers.install import LOG_HALF, SHOWN_PER_SECOND, Output
from stellarstack.servers.ports import try_ports
from stellarstack.servers.ready import http_answers
from tests.fake_container import Program
from tests.fakes import at_once
from tests.household import CONTAINER, GAME, HouseholdCase, PowerCase, done

P = ParamSpec("P")
T = TypeVar("T")


class BlueprintShelfTests(HouseholdCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = self.world.root / "blueprints"
        self.folder.mkdir(parents=True)
        self.shelf = BlueprintShelf(self.folder, at_once)

    def find(self, wanted: Any) -> str:
        return str(done(self.shelf.find(wanted)).id)

    def test_found(self) -> None:
        """By its file's name, by the id within, or given whole."""
        (self.folder / "game.json").write_text(json.dumps(GAME))
        (self.folder / "other.json").write_text(json.dumps({**GAME, "id": "inner"}))
        (self.folder / "broken.json").write_text("{")
        (self.folder / "note.txt").write_text("x")
        self.assertEqual([self.find("game"), self.find("inner"), self.find(GAME)], ["game", "inner", "game"])

    def test_not_found(self) -> None:
        """P05: an id that is not there is refused; a folder that is not there has none."""
        self.assertRaises(InvalidPayload, self.find, "nothing")
        shelf = BlueprintShelf(self.folder / "nowhere", at_once)
        self.assertRaises(InvalidPayload, lambda: done(shelf.find("x")))

    def test_unusable(self) -> None:
        """A file that is too big, no text or no file is refused, and the text names it."""
        (self.folder / "big.json").write_bytes(b" " * (2 * 2**20 + 1))
        (self.folder / "bytes.json").write_bytes(b"\xff\xfe\x00")
        for name in ("big", "bytes"):
            self.assertIn(name, str(self.assertRaises(BlueprintInvalid, self.find, name)))


class PortsTests(SynchronousTestCase):
    def test_clash(self) -> None:
        """Two ports clash with the same number and protocol, on one address or where either is on all."""
        rows = [
            (PortMapping(1, 1), PortMapping(1, 2), True),
            (PortMapping(1, 1, "tcp"), PortMapping(1, 1, "udp"), False),
            (PortMapping(1, 1, "both"), PortMapping(1, 1, "udp"), True),
            (PortMapping(1, 1, "tcp", "127.0.0.1"), PortMapping(1, 1, "tcp", "127.0.0.2"), False),
            (PortMapping(1, 1, "tcp", "127.0.0.1"), PortMapping(1, 1, "tcp", "0.0.0.0"), True),
            (PortMapping(1, 1, "tcp", "::"), PortMapping(1, 1, "tcp", "127.0.0.1"), True),
            (PortMapping(1, 1), PortMapping(2, 1), False),
        ]
        for wanted, held, clashes in rows:
            with self.subTest(wanted=wanted, held=held):
                self.assertEqual(clash_between([wanted], [held]) is not None, clashes)

    def test_held_by_a_program(self) -> None:
        """A port that a program of this host holds is told; one that cannot be had at all, too."""
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = PortMapping(holder.getsockname()[1], 1, "tcp", "127.0.0.1")
            self.assertIn("held by another program", str(self.assertRaises(PortInUse, try_ports, [port])))
        try_ports([port])
        nowhere = PortMapping(20120, 1, "udp", "192.0.2.1")
        self.assertIn("cannot be opened", str(self.assertRaises(PortInUse, try_ports, [nowhere])))


class ImageTests(PowerCase):
    def test_pulled(self) -> None:
        """An image that is not here is fetched, and its progress told."""
        self.world.engine.registry["test/far:1"] = Program(output="Done\n", replies={"stop": 0})
        steps: list[str] = []
        self.world.bus.listen(lambda kind, body: steps.append(json.loads(body).get("step", "")))
        self.made(blueprint={"docker": {"image": "test/far:1"}})
        self.assertIn("pulling_image", steps)

    def test_always(self) -> None:
        """With pull_policy "always" a newer image is asked for at a create and a reinstall, not at a start."""
        self.world.docker = replace(self.world.docker, pull_policy="always")
        self.world.restart()
        self.world.engine.registry["test/game:1"] = Program(output="Done\n", replies={"stop": 0})
        self.made()
        self.power("restart")
        self.world.run(1)
        self.power("stop")
        self.world.run(1)
        self.assertEqual([name for name, _ in self.world.engine.faults.made].count("pull"), 1)
        self.power("reinstall")
        self.world.run(1)
        self.assertEqual([name for name, _ in self.world.engine.faults.made].count("pull"), 2)

    def test_never(self) -> None:
        """With pull_policy "never" an image that is not here is refused."""
        self.world.docker = replace(self.world.docker, pull_policy="never")
        self.world.restart()
        command = self.world.create(blueprint={"docker": {"image": "test/far:1"}})
        self.world.run(1)
        self.assertEqual(self.outcome(command), ("failed", "image_not_found"))


class NetworkTests(PowerCase):
    def test_subnet_that_is_held(self) -> None:
        """A subnet that somebody else took meanwhile is changed for another one."""
        self.made(start=False)
        server = self.world.household.get("srv_1")
        done(self.world.engine.remove_network(server.container_name))
        done(self.world.engine.create_network("other", server.record.subnet, {}))
        self.power("start")
        self.world.run(1)
        self.assertEqual(self.world.status(), "running")
        self.assertEqual(self.world.subnets_given(), [server.record.subnet])

    def test_none_to_be_had(self) -> None:
        """Where the engine refuses each one, the start fails after a few tries."""
        self.made(start=False)
        done(self.world.engine.remove_network(CONTAINER))
        self.world.engine.faults.fail("create_network", EngineConflict("held (test)"), times=100)
        start = self.power("start")
        self.world.run(1)
        self.assertEqual(self.outcome(start)[0], "failed")
        self.assertEqual(self.world.status(), "crashed")


class ConfigFileTests(PowerCase):
    FILE: dict[str, Json] = {"path": "server.properties", "parser": "properties", "replace": {"motd": "hi"}}

    def files(self, *files: dict[str, Json]) -> dict[str, Json]:
        return {"configFiles": list(files)}

    def test_patched(self) -> None:
        """The blueprint's values stand in the file before the game starts; folders that nobody wants are not made."""
        missing: dict[str, Json] = {**self.FILE, "path": "no/where.properties", "create": False}
        also: dict[str, Json] = {**self.FILE, "path": "not-here.properties", "create": False}
        self.made(blueprint=self.files({**self.FILE, "create": True}, missing, also))
        root = self.world.root / "servers" / "srv_1"
        self.assertIn("motd=hi", (root / "server.properties").read_text())
        self.assertEqual([path.name for path in root.iterdir()], ["server.properties"])

    def test_made_empty(self) -> None:
        """EGGS 4: a file that is missing is made empty, with mode 0644 whatever the umask, and its folders with it."""
        self.addCleanup(os.umask, os.umask(0o077))
        lines: dict[str, Json] = {"path": "/a/b c/.x.conf", "parser": "file", "replace": {"port=": "port=1"}}
        self.made(blueprint=self.files({**lines, "create": True}))
        made = self.world.root / "servers" / "srv_1" / "a" / "b c" / ".x.conf"
        self.assertEqual((made.read_bytes(), stat.S_IMODE(made.stat().st_mode)), (b"", 0o644))

    def test_in_order(self) -> None:
        """EGGS 4: files are patched in the blueprint's order, the replacements of one in theirs."""

        def lines(path: str, **found: str) -> dict[str, Json]:
            return {"path": path, "parser": "file", "create": True, "replace": dict(found)}

        files = self.files(
            lines("two", port="1", port_="2", name="first"), lines("one", port_="2", port="1", name="second"),
            lines("two", first="third", name="never"), lines("one", second="third"), lines("one", third="last"),
        )  # fmt: skip
        self.made(start=False, blueprint=files)
        root = self.world.root / "servers" / "srv_1"
        for name in ("one", "two"):
            (root / name).write_text("port_a\nname\n")
        self.power("start")
        self.world.run(1)
        self.assertEqual(((root / "two").read_text(), (root / "one").read_text()), ("12\nthird\n", "21\nlast\n"))

    def test_broken_one_among_several(self) -> None:
        """What stands before a file that cannot be parsed is patched, what stands after it is not; nothing starts."""
        broken: dict[str, Json] = {"path": "b.json", "parser": "json", "replace": {"a": "x"}}
        files = self.files({**self.FILE, "create": True}, broken, {**self.FILE, "path": "c.properties", "create": True})
        self.made(start=False, blueprint=files)
        root = self.world.root / "servers" / "srv_1"
        (root / "b.json").write_text("{")
        start = self.power("start")
        self.world.run(1)
        self.assertEqual(self.outcome(start)[0], "failed")
        self.assertEqual({path.name for path in root.iterdir()}, {"server.properties", "b.json"})
        self.assertEqual((root / "b.json").read_text(), "{")

    def test_refused(self) -> None:
        """A file that is a link is refused, told by an alert, and the server is not started (W10)."""
        self.made(start=False, blueprint=self.files({**self.FILE, "create": True}))
        root = self.world.root / "servers" / "srv_1"
        (root / "server.properties").symlink_to("/etc/hostname")
        start = self.power("start")
        self.world.run(1)
        self.assertEqual(self.outcome(start), ("failed", "path_forbidden"))
        self.assertEqual(len(self.world.store.events("node.alert", code="config_file")), 1)
        self.assertEqual(self.world.status(), "crashed")


class ThreadTests(PowerCase):
    def test_file_system_refuses(self) -> None:
        """An OSError that nobody expected is one clear error, not a fault of the daemon's own."""

        def refuse(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
            raise OSError(28, "No space left on device", "/srv/x")

        self.world.threads = refuse
        self.world.restart()
        around = self.world.around
        error = self.assertRaises(StellarError, lambda: done(around.in_thread(len, "x")))
        self.assertEqual(str(error), "the host's file system refuses /srv/x: No space left on device")

    def test_thread_that_hangs(self) -> None:
        """Who is cancelled while a thread works waits for it, and not for ever."""
        self.world.threads = lambda *_args, **_kwargs: Deferred()
        self.world.restart()
        waiting = Deferred.fromCoroutine(self.world.around.in_thread(len, "x"))
        waiting.cancel()
        self.assertNoResult(waiting)
        self.world.run(6)
        self.failureResultOf(waiting, CancelledError)


class ReadyTests(PowerCase):
    def setUp(self) -> None:
        super().setUp()
        self.open = False
        self.asked: list[tuple[object, ...]] = []
        self.world.threads = self.thread
        self.world.restart()

    def thread(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        if work.__name__ in ("_port_opens", "_http_answers"):
            self.asked.append((work.__name__, *args))
            return cast("Deferred[T]", at_once(lambda: self.open))
        return at_once(work, *args, **kwargs)

    def ready(self, kind: str, **more: Json) -> None:
        check: dict[str, Json] = {"type": kind, "timeout": 60, **more}
        self.world.create(
            blueprint={"startup": {"command": "x", "readyCheck": check}},
            config={"ports": [{"host": 20130, "container": 25565}]},
        )
        self.world.run(3)

    def test_none(self) -> None:
        """`none`: running as soon as the process is there."""
        self.ready("none")
        self.assertEqual(self.world.status(), "running")

    def test_port(self) -> None:
        """`port`: running when the container's own primary port opens."""
        self.ready("port")
        self.assertEqual(self.world.status(), "starting")
        self.open = True
        self.world.run(1)
        self.assertEqual(self.world.status(), "running")
        address = self.world.engine.get(CONTAINER).addresses[CONTAINER]
        self.assertEqual(self.asked[0][:3], ("_port_opens", address, 25565))

    def test_http(self) -> None:
        """`http`: running when the port and path asked for answer."""
        self.open = True
        self.ready("http", port=8080, path="/up")
        self.assertEqual(self.world.status(), "running")
        self.assertEqual((self.asked[0][0], *self.asked[0][2:]), ("_http_answers", 8080, "/up"))

    def test_no_address(self) -> None:
        """While the engine tells no address nothing is asked, least of all the host's own ports."""
        self.ready("port")
        asked = len(self.asked)
        container = self.world.engine.get(CONTAINER)
        there, container.addresses = container.addresses, {}
        self.world.restart()
        self.open = True
        self.world.run(5)
        self.assertEqual((len(self.asked), self.world.status()), (asked, "starting"))
        container.addresses = there
        self.world.run(2)
        self.assertEqual(self.world.status(), "running")

    def test_engine_stumbles(self) -> None:
        """A probe that cannot learn the address at first asks again."""
        self.open = True
        self.world.engine.faults.latency = lambda _: 0.1
        self.world.create(
            blueprint={"startup": {"command": "x", "readyCheck": {"type": "port", "port": 7, "timeout": 60}}}
        )
        while not any(call == "start" for call, _ in self.world.engine.faults.made):
            self.world.run(0.05)
        self.world.run(0.15)
        self.world.engine.faults.fail("inspect", DockerUnavailable("no (test)"))
        self.world.run(5)
        self.assertEqual(self.world.status(), "running")

    def test_probes_end_with_the_process(self) -> None:
        """Nothing is probed any more when the process has ended."""
        self.ready("port")
        self.world.engine.crash(CONTAINER, 1)
        self.world.run(1)
        asked = len(self.asked)
        self.world.run(10)
        self.assertEqual((len(self.asked), self.world.tasks.names()), (asked, ["engine watch"]))


class HttpAnswersTests(SynchronousTestCase):
    """The question itself, over a pair of sockets."""

    def ask(self, answer: bytes, seconds: float = 1.0, path: str = "/a b") -> bool:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(answer)
            theirs.shutdown(socket.SHUT_WR)
            answered = http_answers(ours, "10.0.0.1:80", path, seconds)
            self.assertTrue(theirs.recv(100).startswith(b"GET /a%20b HTTP/1.0\r\nHost: 10.0.0.1:80\r\n\r\n"))
            return answered

    def test_answers(self) -> None:
        """Any answer below 500 will do; rubbish, silence and the end will not."""
        for answer, good in [
            (b"HTTP/1.1 200 OK\r\n", True),
            (b"HTTP/1.0 404 No\r\n\r\n", True),
            (b"HTTP/1.1 503 Busy\r\n", False),
            (b"SSH-2.0-OpenSSH\r\n", False),
            (b"HTTP/1.1", False),
            (b"", False),
        ]:
            with self.subTest(answer=answer):
                self.assertEqual(self.ask(answer), good)

    def test_no_time(self) -> None:
        """One that says nothing is given up when its time is over."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertRaises(OSError, http_answers, ours, "h", "/", 0.01)


class InstallOutputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = 0.0
        self.shown: list[str] = []
        self.output = Output(self.shown.append, lambda: self.now)

    def test_kept_and_shown(self) -> None:
        """All of a usual output is shown and kept, characters whole."""
        self.output.output_received("añ".encode()[:2])
        self.output.output_received("añ".encode()[2:] + b"b")
        self.assertEqual((self.output.text(), "".join(self.shown)), ("añb", "añb"))

    def test_flood(self) -> None:
        """K17: of a flood the begin and the end are kept, and a part is shown each second."""
        for number in range(100):
            self.output.output_received((f"{number:9d}\n" * 10_000).encode())
        text = self.output.text()
        self.assertTrue(len(text) < 2 * LOG_HALF + 200_000)
        self.assertTrue(text.startswith("        0\n") and text.endswith("       99\n"))
        self.assertIn("characters left out]", text)
        self.assertTrue(sum(map(len, self.shown)) < 2 * SHOWN_PER_SECOND)
        self.assertTrue(self.shown[-1].endswith("[output left out]\n"))
        self.now = 1.0
        self.output.output_received(b"again")
        self.assertEqual(self.shown[-1], "again")

    def test_end(self) -> None:
        """The end is told once."""
        self.output.output_ended()
        self.output.output_ended()
        self.successResultOf(self.output.ended)


class InstallTests(PowerCase):
    def install(self, program: Program, **more: Json) -> str:
        self.world.engine.add_image("test/installer:1", program)
        plan: dict[str, Json] = {"image": "test/installer:1", "entrypoint": "sh", "script": "a\r\nb", "timeout": 60}
        return self.world.create(blueprint={"install": {**plan, **more}})

    def test_script_and_log(self) -> None:
        """The script has no CR, lies where the tenant cannot write, and is gone after it; its log is kept, and removed
        with the server.
        """
        folder = self.world.root / "install" / "srv_1"
        seen: list[str] = []

        class Reader(Program):
            def on_start(self, process: Any) -> None:
                seen.append((folder / "script" / "install.sh").read_text())
                process.print("fetched\n")
                process.exit(0, after=1.0)

        command = self.install(Reader())
        self.world.run(3)
        self.assertEqual(self.answer(command)["status"], "running")
        self.assertEqual(seen, ["a\nb"])
        self.assertEqual([path.name for path in folder.iterdir()], ["install.log"])
        self.assertEqual((folder / "install.log").read_bytes(), b"fetched\r\n")
        self.power("delete")
        self.world.run(1)
        self.assertFalse(folder.exists())

    def test_log_cannot_be_written(self) -> None:
        """A log that cannot be written does not fail an install that went well."""
        (self.world.root / "install" / "srv_1" / "install.log").mkdir(parents=True)
        command = self.install(Program(output="fetched\n", exit_after=1.0))
        self.world.run(3)
        self.assertEqual(self.answer(command)["status"], "running")

    def test_logs_of_failed_creates(self) -> None:
        """The log of a create that failed can still be read; the newest twenty of them are kept."""
        self.world.engine.add_image(
            "test/installer:1", Program(output="no such version\n", exit_after=0.5, exit_code=3)
        )
        self.made(start=False)
        plan: dict[str, Json] = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 60}
        folder = self.world.root / "install"
        (folder / "srv_1").mkdir(parents=True)
        os.utime(folder / "srv_1", (0, 0))
        for number in range(23):
            self.world.create(f"srv_f{number:02}", blueprint={"install": plan})
            self.world.run(1)
            if (folder / f"srv_f{number:02}").exists():
                os.utime(folder / f"srv_f{number:02}", (number, number))
        self.assertEqual(
            sorted(path.name for path in folder.iterdir()), ["srv_1", *(f"srv_f{number:02}" for number in range(3, 23))]
        )
        self.assertIn("no such version", (folder / "srv_f22" / "install.log").read_text())

    def test_dockerd_restarts(self) -> None:
        """K01: an install that runs on over a restart of dockerd is waited for further."""
        command = self.install(Program(exit_after=10.0))
        self.world.run(2)
        self.world.engine.go_down()
        self.world.run(3)
        self.world.engine.come_back()
        self.world.run(20)
        self.assertEqual(self.answer(command)["status"], "running")

    def test_removed_by_somebody(self) -> None:
        """K03: an install container that somebody removes is a failed install."""
        command = self.install(Program())
        self.world.run(2)
        self.world.engine.go_down()
        self.world.engine.come_back()
        self.world.engine.vanish(f"install-{CONTAINER}")
        self.world.run(5)
        self.assertEqual(self.outcome(command), ("failed", "install_failed"))

    def test_reinstall(self) -> None:
        """Reinstall runs the script again; with keepFiles false in an empty folder; not of a running server."""
        self.install(Program(exit_after=1.0))
        self.world.run(3)
        refused = self.power("reinstall")
        self.world.run(1)
        self.assertEqual(self.outcome(refused), ("rejected", "invalid_state"))
        self.power("stop")
        world = self.world.root / "servers" / "srv_1" / "world.dat"
        world.write_text("a castle")
        kept = self.power("reinstall")
        self.world.run(3)
        self.assertEqual((self.answer(kept), world.exists()), ({"status": "stopped"}, True))
        self.power("reinstall", keepFiles=False)
        self.world.run(3)
        self.assertFalse(world.exists())

    def test_reinstall_without_its_image(self) -> None:
        """A reinstall whose image cannot be had touches nothing: the files are there, the server can be started."""
        self.install(Program(exit_after=1.0))
        self.world.run(3)
        self.power("stop")
        world = self.world.root / "servers" / "srv_1" / "world.dat"
        world.write_text("a castle")
        done(self.world.engine.remove_image("test/installer:1"))
        failed = self.power("reinstall", keepFiles=False)
        start = self.power("start")
        self.world.run(3)
        self.assertEqual(self.outcome(failed), ("failed", "image_pull_failed"))
        self.assertEqual((self.outcome(start)[0], world.exists()), ("succeeded", True))

    def test_never_installed(self) -> None:
        """A server whose reinstall failed is not started before it was installed."""
        self.install(Program(exit_after=1.0))
        self.world.run(3)
        self.power("stop")
        self.world.engine.add_image("test/installer:1", Program(exit_after=1.0, exit_code=2))
        self.power("reinstall")
        self.world.run(3)
        refused = [self.power("start"), self.power("restart")]
        self.world.run(1)
        self.assertEqual({self.outcome(one) for one in refused}, {("rejected", "invalid_state")})


class StopTests(PowerCase):
    def test_control_key(self) -> None:
        """`^C` is pressed in the terminal, and is no force."""
        self.made(Program(output="Done\n", signals={"SIGINT": 0}), blueprint={"docker": {
            "image": "test/other:1", "stop_command": "^C"}})  # fmt: skip
        stop = self.power("stop")
        self.world.run(1)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 0, "forced": False})

    def test_signal(self) -> None:
        """A signal's name is sent as a signal, and is no force."""
        self.made(Program(output="Done\n", signals={"SIGINT": 3}), blueprint={"docker": {
            "image": "test/other:1", "stop_command": "SIGINT"}})  # fmt: skip
        stop = self.power("stop")
        self.world.run(1)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 3, "forced": False})

    def test_after_a_half_typed_line(self) -> None:
        """A line that somebody has half typed does not swallow the stop command."""
        self.made()
        self.world.consoles.open_ones["srv_1"].type(b"say good by")
        stop = self.power("stop")
        self.world.run(1)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 0, "forced": False})

    def test_half_typed_before_the_daemon_died(self) -> None:
        """K07: nor where it was typed under the last daemon, of which this one knows nothing."""
        self.made()
        self.world.consoles.open_ones["srv_1"].type(b"say good by")
        self.world.restart()
        self.world.run(1)
        stop = self.power("stop")
        self.world.run(1)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 0, "forced": False})

    def test_command_after_a_half_typed_line(self) -> None:
        """server.command enters its own line and nothing else."""
        self.made(Program(output="Done\n", replies={"list": "nobody\n", "say good bylist": "glued\n"}))
        console = self.world.consoles.open_ones["srv_1"]
        console.type(b"say good by")
        self.power("command", command="list")
        self.world.run(1)
        self.assertIn(b"nobody", console.seen)
        self.assertNotIn(b"glued", console.seen)

    def without_a_terminal(self, program: Program, word: str) -> str:
        self.made(program, blueprint={"docker": {"image": "test/other:1", "stop_command": word, "stop_timeout": 30}})
        self.world.engine.get(CONTAINER).drop_attached()
        return self.power("stop")

    def test_without_a_terminal(self) -> None:
        """EGGS 2: where the terminal is not attached nothing can be typed: SIGTERM comes at once."""
        stop = self.without_a_terminal(Program(output="Done\n", replies={"stop": 0}), "stop")
        self.world.run(0.5)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 143, "forced": True})

    def test_without_a_terminal_slowly(self) -> None:
        """The signal has the time that the typed word would have had: a world that takes 20 s to save is saved."""
        stop = self.without_a_terminal(Program(output="Done\n", signals={"SIGTERM": 0}, delay=20.0), "stop")
        self.world.run(21)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 0, "forced": True})

    def test_without_a_terminal_deaf(self) -> None:
        """And no longer: one that does not heed it is killed as any other."""
        stop = self.without_a_terminal(Program(output="Done\n", signals={}), "stop")
        self.world.run(36)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 137, "forced": True})

    def test_control_key_without_a_terminal(self) -> None:
        """`^C` that cannot be pressed comes as SIGINT at once, and is no force."""
        stop = self.without_a_terminal(Program(output="Done\n", signals={"SIGINT": 0}), "^C")
        self.world.run(0.5)
        self.assertEqual(self.answer(stop), {"status": "stopped", "exitCode": 0, "forced": False})

    def test_vanishes(self) -> None:
        """K03: a container that vanishes under a kill counts as ended, its exit status unknown."""
        self.made()
        self.world.engine.faults.latency = lambda _: 0.2
        kill = self.power("kill")
        self.world.engine.vanish(CONTAINER)
        self.world.run(5)
        self.assertEqual(self.answer(kill), {"status": "stopped", "exitCode": None})

    def test_deaf_to_sigkill(self) -> None:
        """A process that SIGKILL does not end (a hung disk, say) fails the kill in clear words."""
        self.made()
        self.world.engine.faults.hang(1, name="kill")
        kill = self.power("kill")
        self.world.run(60)
        self.assertEqual(self.outcome(kill), ("failed", "timeout"))
        self.assertEqual((self.world.status(), self.running()), ("running", True))
