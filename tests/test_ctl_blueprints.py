"""`stellarctl blueprint`: what is taken, what is refused, what is said, and that nothing is left half written."""

from __future__ import annotations

import io
import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import parse_blueprint
from stellarstack.core.documents import load_text
from stellarstack.ctl.arguments import Usage, parser
from stellarstack.ctl.blueprint_folder import SIZE_LIMIT, BlueprintRefused, changes_between
from stellarstack.ctl.main import Control
from stellarstack.servers.blueprints import BlueprintShelf
from tests.fakes import at_once
from tests.household import done

EGGS = Path(__file__).parent / "eggs"
PANEL_EGGS = sorted(EGGS.glob("egg-*.json"))
GAME: dict[str, Any] = {
    "id": "game", "name": "Game", "docker": {"image": "game:1", "stop_command": "SIGINT", "stop_timeout": 5},
    "resources": {"memory": 512, "cpu": 1.5},
    "ports": [{"container": 25565, "protocol": "udp", "description": "game"}],
    "environment": [{"key": "MOTD", "default": "hi", "rules": "string|max:60"}],
    "startup": {"command": ["./game", "--x"], "readyCheck": {"type": "http", "port": 8080, "path": "/up"}},
    "install": {"image": "i:1", "entrypoint": "sh", "script": "a\nb"},
    "configFiles": [{"path": "a.properties", "parser": "properties", "create": False, "replace": {"p": "{{MOTD}}"}}],
    "crash": {"restart": False},
    "versions": [{"tag": "1"}, {"tag": "2"}],
}  # fmt: skip


class BlueprintCase(SynchronousTestCase):
    """A config of its own, with a folder of blueprints that is not there yet."""

    def setUp(self) -> None:
        self.base = Path(self.mktemp()).absolute()
        self.base.mkdir(parents=True)
        self.config = self.base / "daemon.toml"
        self.folder = self.base / "state" / "blueprints"
        self.config.write_text(f'[paths]\nstate = "{self.base / "state"}"\n')

    def ctl(self, *words: str | Path) -> tuple[int, str, str]:
        """Exit status, standard output, standard error of `stellarctl blueprint …`."""
        options = parser().parse_args(["-c", str(self.config), "blueprint", *map(str, words)])
        out, err = io.StringIO(), io.StringIO()
        return Control(options, {}, out, err).run(), out.getvalue(), err.getvalue()

    def file(self, name: str, document: Any) -> Path:
        path = self.base / name
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return path

    def there(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


class ImportTests(BlueprintCase):
    """`stellarctl blueprint import FILE…`"""

    def test_every_egg(self) -> None:
        """All 12 eggs of the panels' collection are taken as they are, byte for byte, under their file's name."""
        self.assertEqual(len(PANEL_EGGS), 12)
        status, out, err = self.ctl("import", *PANEL_EGGS)
        self.assertEqual((status, err), (0, ""))
        for egg in PANEL_EGGS:
            self.assertIn(f"{egg.stem} (PTDL_v2) installed\n", out)
            self.assertEqual((self.folder / egg.name).read_bytes(), egg.read_bytes())

    def test_the_daemon_finds_them(self) -> None:
        """What was imported is what ``server.create`` gets by its id."""
        self.ctl("import", *PANEL_EGGS, self.file("x.json", GAME))
        shelf = BlueprintShelf(self.folder, at_once)
        for name in ("game", *(egg.stem for egg in PANEL_EGGS)):
            self.assertEqual(done(shelf.find(name)).id, name)

    def test_other_versions(self) -> None:
        """PTDL_v1 and PLCN_v1 to v3, the latter in YAML, are taken too."""
        status, out, _ = self.ctl("import", *EGGS.glob("p*_v*"))
        self.assertEqual(status, 0)
        self.assertEqual(self.there(), ["plcn_v1.json", "plcn_v2.json", "plcn_v3.yaml", "ptdl_v1.json"])
        for version in ("PTDL_v1", "PLCN_v1", "PLCN_v2", "PLCN_v3"):
            self.assertIn(f"({version}) installed", out)

    def test_private(self) -> None:
        """The folder is 0700 and the file 0600, whatever the umask and whatever it was before."""
        self.folder.mkdir(parents=True, mode=0o777)
        self.folder.chmod(0o777)
        before = os.umask(0)
        try:
            self.ctl("import", self.file("x.json", GAME))
        finally:
            os.umask(before)
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)
        self.assertEqual(stat.S_IMODE((self.folder / "game.json").stat().st_mode), 0o600)

    def test_by_its_own_id(self) -> None:
        """P05: the id in the file counts, not the file's name; one that leads out of the folder is refused."""
        self.ctl("import", self.file("whatever.json", GAME))
        self.assertEqual(self.there(), ["game.json"])
        status, _, err = self.ctl("import", self.file("bad.json", {**GAME, "id": "../../etc/cron.d/x"}))
        self.assertEqual(status, 1)
        self.assertIn("id: must be", err)
        self.assertEqual(self.there(), ["game.json"])

    def test_file_name_that_is_no_id(self) -> None:
        """An egg in a file whose name can be no id gets one out of its own name."""
        egg = self.base / "my paper (1).json"
        egg.write_bytes((EGGS / "egg-paper.json").read_bytes())
        self.assertEqual(self.ctl("import", egg)[0], 0)
        self.assertEqual(self.there(), ["paper.json"])

    def test_again(self) -> None:
        """The same file again changes nothing; another one of that id is refused and says what differs."""
        path = self.file("x.json", GAME)
        self.ctl("import", path)
        self.assertIn("nothing changed", self.ctl("import", path)[1])
        other = self.file("y.json", {**GAME, "name": "Better", "environment": [{"key": "NEW"}]})
        status, out, err = self.ctl("import", other)
        self.assertEqual((status, out), (1, ""))
        self.assertIn("differs in name, variable NEW (new), variable MOTD (gone)", err)
        self.assertEqual((self.folder / "game.json").read_bytes(), path.read_bytes())

    def test_forced(self) -> None:
        """--force replaces it and says what changed; one of another ending does not stay beside it."""
        self.ctl("import", self.file("x.json", GAME))
        new = self.file("game.toml", 'id = "game"\nname = "Game"\n[docker]\nimage = "game:2"\n')
        status, out, _ = self.ctl("import", new, "--force")
        self.assertEqual(status, 0)
        self.assertIn("replaced: ", out)
        self.assertIn("images", out)
        self.assertEqual(self.there(), ["game.toml"])
        spaced = self.file("z.toml", new.read_text() + "\n# only a comment\n")
        self.assertIn("its text, not its meaning", self.ctl("import", spaced)[2])

    def test_same_id_under_another_name(self) -> None:
        """A file that somebody put there under another name counts as installed; --force leaves one of that id."""
        self.folder.mkdir(parents=True, mode=0o700)
        (self.folder / "old.json").write_text(json.dumps(GAME))
        status, _, err = self.ctl("import", self.file("x.json", GAME))
        self.assertEqual(status, 1)
        self.assertIn("old.json", err)
        self.assertEqual(self.ctl("import", "--force", self.base / "x.json")[0], 0)
        self.assertEqual(self.there(), ["game.json"])

    def test_over_one_that_cannot_be_read(self) -> None:
        """A broken file under that name is no reason to be replaced unasked."""
        self.folder.mkdir(parents=True, mode=0o700)
        (self.folder / "game.json").write_text("{")
        self.assertIn("cannot be read", self.ctl("import", self.file("x.json", GAME))[2])
        self.assertEqual(self.ctl("import", "--force", self.base / "x.json")[0], 0)

    def test_each_is_judged(self) -> None:
        """Of several files the good ones are taken; each bad one is one line, and the status is 1."""
        bad = {
            "a.json": "{", "b.json": "[]", "c.txt": "{}", "d.json": "{}", "e.yaml": "a: &x 1\nb: *x\n",
            "f.json": {"meta": {"version": "PTDL_v9"}}, "g.json": {**GAME, "docker": {"image": "Bad Image"}},
            "h.json": " " * (SIZE_LIMIT + 1), "i.json": "[" * 100_000,
            "j.json": {**GAME, "configFiles": [{"path": "../x", "parser": "json"}]},
        }  # fmt: skip
        files = [self.file(name, document) for name, document in bad.items()]
        latin = self.base / "k.json"
        latin.write_bytes(b'{"name": "\xe9"}')
        status, out, err = self.ctl("import", *files, latin, self.base / "none.json", self.file("x.json", GAME))
        self.assertEqual(status, 1)
        self.assertIn("game (native) installed", out)
        self.assertEqual(len(err.splitlines()), len(bad) + 2)
        for name, line in zip([*bad, "k.json", "none.json"], err.splitlines(), strict=True):
            self.assertIn(f"{name}: ", line)
        self.assertEqual(self.there(), ["game.json"])

    def test_disk_full(self) -> None:
        """Where the write breaks off in the middle the old file stays whole, and no temporary one is left."""
        self.ctl("import", self.file("x.json", GAME))
        new = self.file("y.json", {**GAME, "name": "New", "description": "x" * 60_000})
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))  # the kernel takes half of it
        try:
            status, _, err = self.ctl("import", "--force", new)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.assertEqual(status, 1)
        self.assertIn("cannot be written: File too large", err)
        self.assertEqual(self.there(), ["game.json"])
        self.assertEqual((self.folder / "game.json").read_bytes(), (self.base / "x.json").read_bytes())

    def test_a_folder_of_somebody_else(self) -> None:
        """What the daemon runs comes from no folder that a stranger can write."""
        if os.geteuid() != 0:
            self.skipTest("only root can give a folder away")
        self.folder.mkdir(parents=True)
        os.chown(self.folder, 12345, 12345)
        status, _, err = self.ctl("import", self.file("x.json", GAME))
        self.assertEqual(status, 1)
        self.assertIn("belongs to user 12345", err)

    def test_a_folder_that_cannot_be_made(self) -> None:
        """A file where the folder should be is one line."""
        self.folder.parent.mkdir(parents=True)
        self.folder.write_text("")
        self.assertIn("File exists", self.ctl("import", self.file("x.json", GAME))[2])

    def test_json(self) -> None:
        """With --json each file is one line of JSON."""
        out = self.ctl("import", "--json", self.file("x.json", GAME), EGGS / "egg-node-js-generic.json")[1]
        first, second = map(json.loads, out.splitlines())
        self.assertEqual((first["id"], first["format"], first["outcome"]), ("game", "native", "new"))
        self.assertIn("placeholder that never matches", second["warnings"][0])

    def test_not_over_redis(self) -> None:
        """The files of another machine are not within reach."""
        options = parser().parse_args(["--redis", "redis://x", "--node", "node_a", "blueprint", "list"])
        with self.assertRaises(Usage):
            Control(options, {}, io.StringIO(), io.StringIO()).run()


class ListTests(BlueprintCase):
    """`stellarctl blueprint list` and `show`"""

    def test_list(self) -> None:
        """All that is installed, and what cannot be used beside it."""
        self.assertEqual(self.ctl("list")[0], 0)
        self.ctl("import", self.file("x.json", GAME), EGGS / "egg-paper.json")
        status, out, _ = self.ctl("list")
        rows = out.splitlines()
        self.assertEqual(status, 0)
        self.assertEqual(rows[1].split()[:2], ["egg-paper", "PTDL_v2"])
        self.assertEqual(rows[2].split(), ["game", "native", "Game", "game:1", "game.json"])
        (self.folder / "bad.json").write_text("{")
        (self.folder / "notes.txt").write_text("no blueprint")
        status, out, err = self.ctl("list", "--json")
        self.assertEqual((status, [row["id"] for row in json.loads(out)]), (1, ["egg-paper", "game"]))
        self.assertIn("bad.json", err)
        self.assertNotIn("notes", err)

    def test_show(self) -> None:
        """One that is installed, found by its name or by the id within, as text and as JSON."""
        self.ctl("import", self.file("x.json", GAME))
        self.assertIn("game  Game (native)", self.ctl("show", "game")[1])
        found = json.loads(self.ctl("show", "game", "--json")[1])
        self.assertEqual((found["id"], found["limits"]["memoryMb"]), ("game", 512))
        self.assertEqual(found["install"]["scriptLines"], 2)
        self.assertNotIn("script", found["install"])
        (self.folder / "game.json").rename(self.folder / "other.json")
        self.assertIn("game  Game", self.ctl("show", "game")[1])
        for missing in ("none", "../game"):
            with self.assertRaises(BlueprintRefused):
                self.ctl("show", missing)


class CheckTests(BlueprintCase):
    """`stellarctl blueprint check FILE…`"""

    def test_native(self) -> None:
        """Everything the daemon understands is told, and nothing is written."""
        status, out, _ = self.ctl("check", self.file("x.json", GAME))
        self.assertEqual(status, 0)
        for words in (
            "game:1",
            "./game --x",
            "port 8080 answers HTTP /up, within 300 s",
            "sends SIGINT, SIGTERM after 5 s",
            "memory 512 MB, cpu 1.5 cores",
            "25565/udp  game",
            "MOTD = 'hi'  [nullable|string|max:60]",
            "sh, 2 lines, in i:1, as the server's user",
            "a.properties  properties, 1 replaced, only where it is",
            "no restart",
        ):
            self.assertIn(words, out)
        self.assertFalse(self.folder.exists())

    def test_other_ways(self) -> None:
        """Ready at once, by a port, by an expression; stopped by a key; the image's own command."""
        rows: list[tuple[dict[str, Any], str]] = [
            ({"startup": {}}, "the image's own command"),
            ({"startup": {}}, "at once"),
            ({"startup": {"readyCheck": {"type": "port"}}}, "port of the server is open, within 300 s"),
            ({"startup": {"readyCheck": {"pattern": "up|on", "timeout": 0}}}, "a line matches 'up|on'\n"),
            ({"docker": {"image": "a", "stop_command": "^X"}}, "types Ctrl-X"),
            ({"docker": {"image": "a", "stop_command": "bye"}}, "types 'bye'"),
            ({"resources": {}}, "crash"),
            ({"install": {"script": "x"}}, "in the server's own image"),
        ]
        for index, (part, words) in enumerate(rows):
            self.assertIn(words, self.ctl("check", self.file(f"{index}.json", {**GAME, "crash": {}, **part}))[1])

    def test_every_egg_as_the_daemon_reads_it(self) -> None:
        """Of each egg, what is shown is what the daemon's own reader finds: images, stop, done, variables, files."""
        for egg in PANEL_EGGS:
            found = json.loads(self.ctl("check", "--json", egg)[1])
            read = parse_blueprint(load_text(egg.read_text(), egg.name), default_id=egg.stem)
            self.assertEqual([one["image"] for one in found["images"]], [one.image for one in read.images])
            self.assertEqual(found["stop"], {"kind": read.stop.kind.value, "value": read.stop.value})
            self.assertEqual(
                [one["text"] for one in found["ready"]["patterns"]], [one.text for one in read.ready.patterns]
            )
            self.assertEqual([one["key"] for one in found["variables"]], [one.key for one in read.variables])
            self.assertEqual([one["path"] for one in found["configFiles"]], [one.path for one in read.config_files])
            text = self.ctl("check", egg)[1]
            for word in (*(one.key for one in read.variables), *(one.path for one in read.config_files)):
                self.assertIn(word, text)

    def test_warnings_of_the_eggs(self) -> None:
        """Just those eggs that need it bring a warning: tokens to be given, and a done line that never comes."""
        found = {egg.stem: json.loads(self.ctl("check", "--json", egg)[1])["warnings"] for egg in PANEL_EGGS}
        self.assertEqual(
            {name: len(lines) for name, lines in found.items() if lines},
            {"egg-curse-forge-generic": 2, "egg-minetest": 1, "egg-node-js-generic": 1},
        )

    def test_refused(self) -> None:
        """A file that is no blueprint is one line and status 1, the others are judged all the same."""
        status, out, err = self.ctl("check", EGGS / "LICENSE", self.file("x.json", GAME))
        self.assertEqual((status, len(err.splitlines())), (1, 1))
        self.assertIn("game  Game", out)

    def test_control_characters(self) -> None:
        """What a stranger wrote into a blueprint never reaches the terminal as a command to it."""
        egg = {"meta": {"version": "PTDL_v2"}, "name": "\x1b[2Jx", "docker_images": {"\x1b]0;y\x07": "a:1"},
               "startup": "\x1b[31m", "variables": [{"env_variable": "A", "rules": "in:\x1b[5m"}]}  # fmt: skip
        status, out, err = self.ctl("check", self.file("x.json", egg))
        self.assertEqual(status, 0)
        self.assertNotIn("\x1b", out + err)


class ChangesTests(SynchronousTestCase):
    """changes_between"""

    def test_parts(self) -> None:
        """Each part that is another one is named once, variables and files by their own names."""
        file: dict[str, Any] = {"path": "b.ini", "parser": "ini"}
        old = parse_blueprint({**GAME, "configFiles": [*GAME["configFiles"], file]})
        variables = [{"key": "MOTD", "default": "ho"}, {"key": "X"}]
        more: dict[str, Any] = {"environment": variables, "crash": {}, "configFiles": [{**file, "parser": "json"}]}
        self.assertEqual(
            changes_between(old, parse_blueprint({**GAME, **more})),
            ("crash", "variable X (new)", "variable MOTD", "config file a.properties (gone)", "config file b.ini"),
        )
        self.assertEqual(changes_between(old, old), ())
