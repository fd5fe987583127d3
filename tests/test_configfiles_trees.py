"""Config files made of objects and lists: json, yaml, toml (EGGS.md 4)."""

import json
import tomllib
from typing import Any

from ruamel.yaml import YAML

from tests.configfile_rows import PORT, Rows, patched


class JsonTests(Rows):
    parser = "json"

    def test_types(self) -> None:
        """The type in the file is kept where the text can be read as it; booleans of the egg stay booleans."""
        self.check(
            '{"n": 1, "f": 1.50, "b": false, "s": "1", "x": null, "t": 5, "keep": 1.10}',
            {"n": PORT, "f": "2.70", "b": "1", "s": "2", "x": PORT, "t": "five", "new": True, "i": 0, "text": "123"},
            '{"n":25565,"f":2.70,"b":true,"s":"2","x":25565,"t":"five","keep":1.10,"new":true,"i":0,"text":"123"}',
        )

    def test_layout(self) -> None:
        """Order, indent, line ends, a byte order mark and the letters of text stay."""
        self.check(
            '\ufeff{\r\n\t"b": "é",\r\n\t"a": []\r\n}\r\n', {"b": "ü"}, '\ufeff{\r\n\t"b": "ü",\r\n\t"a": []\r\n}\r\n'
        )
        self.check('{\n    "a": {}\n}', {"a.b": "c"}, '{\n    "a": {\n        "b": "c"\n    }\n}')
        self.check('{"s": "\\ud800"}', {"a": 1}, '{"s":"\\ud800","a":1}')

    def test_new_file(self) -> None:
        """A file that is not there begins as an empty object; an empty or broken one is left alone."""
        self.check(None, {"listen.port": PORT}, '{\n  "listen": {\n    "port": 25565\n  }\n}\n')
        for content in ("", " \n", "{", "[1", "5", '"x"', '{"a": NaN}', "{'a': 1}", '{"a": 1,}'):
            self.refuse(content, {"a": "b"})

    def paths(self, content: str, find: dict[str, Any]) -> Any:
        return json.loads(patched("json", content, find))

    def test_paths(self) -> None:
        """Dots step, ~1 and \\. are dots, ~0 a tilde, numbers index lists, and missing objects are made."""
        self.assertEqual(
            self.paths("{}", {"controller~1http_port": "1", "a\\.b": "2", "c~0d": "3"}),
            {"controller.http_port": "1", "a.b": "2", "c~d": "3"},
        )
        self.assertEqual(self.paths('{"listen": ["x", 1]}', {"listen.0": "y", "listen.1": "2"}), {"listen": ["y", 2]})
        self.assertEqual(self.paths('{"a": null}', {"a.b.c": "x"}), {"a": {"b": {"c": "x"}}})
        self.assertEqual(self.paths('[{"a": 1}]', {"0.a": "2"}), [{"a": 2}])

    def test_brackets(self) -> None:
        """name[0] is made where it is missing, a larger index is not; only the first bracket is one."""
        self.assertEqual(self.paths("{}", {"l[0].host": "x"}), {"l": [{"host": "x"}]})
        self.assertEqual(self.paths("{}", {"l[0]": "x"}), {"l": ["x"]})
        self.assertEqual(self.paths('{"l": 5}', {"l[0]": "x"}), {"l": ["x"]})
        self.assertEqual(self.paths('{"l": [1, {"a": 1}]}', {"l[1].a": "2"}), {"l": [1, {"a": 2}]})
        self.assertEqual(self.paths('{"l": [null]}', {"l[0].a.b": "2"}), {"l": [{"a": {"b": "2"}}]})
        self.assertEqual(self.paths("{}", {"l[0].a[1]": "x"}), {"l": [{"a[1]": "x"}]})
        self.assertEqual(self.paths("[[1]]", {"[0]": "x"}), ["x"])
        self.assertEqual(self.paths("{}", {"l[0]": {"x": "y"}, "m[0].a": {"x": "y"}}), {})
        for find in ({"l[1]": "x"}, {"l[1].a": "x"}, {"s[0].a.b": "x", "l[0].c": "y"}):
            self.refuse('{"l": ["text"]}', find)

    def test_wildcards(self) -> None:
        """Every child gets the value, of objects and lists alike; where there is no base nothing happens."""
        self.assertEqual(
            self.paths('{"s": {"a": {}, "b": {"x": 1}, "c": 5}}', {"s.*.x": "2"}),
            {"s": {"a": {"x": "2"}, "b": {"x": 2}, "c": 5}},
        )
        self.assertEqual(self.paths('{"s": [{"x": 1}, {"x": 2}]}', {"s.*.x": "3"}), {"s": [{"x": 3}, {"x": 3}]})
        self.assertEqual(self.paths('{"s": {"a": 1, "b": 2}}', {"s.*": "3"}), {"s": {"a": 3, "b": 3}})
        self.assertEqual(self.paths("{}", {"s.*.x": "3"}), {})
        self.assertEqual(self.paths('{"s": {"a": {}}}', {"s.*.b.*": "3"}), {"s": {"a": {"b": {"*": "3"}}}})

    def test_conditions(self) -> None:
        """The path must be there; plain text is compared exactly, regex: replaces its matches with groups."""
        document = '{"a": "localhost", "b": "localhost:1", "n": 5}'
        found = self.paths(
            document,
            {
                "a": {"localhost": "x"},
                "b": {"localhost": "x", "regex:local(host):([0-9]+)": "${1}-$2-$$-$9-{{env.EVIL}}"},
                "n": {"5": "6"},
                "c": {"": "x"},
                "d.e": {"": "x"},
                "a.b": {"": "x"},
            },
        )
        self.assertEqual(found, {"a": "x", "b": "host-1-$--{{config.token}} {{env.NAME}} $1", "n": 6})
        self.refuse(document, {"a": {"regex:(": "x"}})

    def test_steps_through_values(self) -> None:
        """A path that leads through a text or a number refuses the whole file, as does an item that is not there."""
        for find in ({"s.a": "x"}, {"l.5": "x"}, {"l.x": "y"}, {"l.0.a": "x"}, {"a." * 70 + "b": "x"}):
            self.refuse('{"s": "text", "l": ["text"]}', {"ok": "1", **find})


class YamlTests(Rows):
    parser = "yaml"

    def test_waterfall(self) -> None:
        """Comments, order, quotes and types of a proxy's config stay while listener and matching servers change."""
        self.check(
            "# Proxy\nlisteners:\n- query_port: 25577 # udp\n  motd: '&1Another'\n"
            "  host: 0.0.0.0:25577\nservers:\n  lobby:\n"
            '    motd: "x"\n    address: localhost\n  other:\n    address: localhost:25566\n    restricted: false\n',
            {
                "listeners[0].host": f"0.0.0.0:{PORT}", "listeners[0].query_port": PORT,
                "servers.other.restricted": "true",
                "servers.*.address": {"127.0.0.1": "{{config.docker.interface}}",
                "localhost": "{{config.docker.interface}}"},
                "servers.lobby.motd": "y",
            },
            "# Proxy\nlisteners:\n- query_port: 25565 # udp\n  motd: '&1Another'\n"
            "  host: 0.0.0.0:25565\nservers:\n  lobby:\n"
            '    motd: "y"\n    address: 10.0.0.1\n  other:\n    address: localhost:25566\n    restricted: true\n',
        )  # fmt: skip

    def test_layout(self) -> None:
        """The indent of objects and lists, a --- at the top and long lines stay."""
        content = f"---\nserver: # REST\n    port: 2333\n    list:\n      - a\n      - b\n    long: {'x ' * 100}y\n"
        self.check(content, {"server.port": PORT}, content.replace("2333", "25565"))
        self.check("a:\n- 1\n", {"b": "c"}, "a:\n- 1\nb: c\n")
        self.check("# only this\n", {"a": "b"}, "# only this\na: b\n")

    def test_empty(self) -> None:
        """An empty file is an empty object, and so is one that is not there."""
        self.check("", {"server.port": PORT, "s": "x"}, "server:\n  port: 25565\ns: x\n")
        self.check(None, {"a": "b"}, "a: b\n")

    def test_text_that_looks_like_more(self) -> None:
        """Text that a reader could take for a number, a boolean or a time is put in quotes."""
        written = patched(
            "yaml", "", {"a": "yes", "b": "12:30", "c": "010", "d": "true", "e": "25565", "f": "~", "g": "plain"}
        )
        self.assertEqual(
            YAML(typ="safe", pure=True).load(written),
            {"a": "yes", "b": "12:30", "c": "010", "d": "true", "e": "25565", "f": "~", "g": "plain"},
        )
        self.assertIn("a: 'yes'\nb: '12:30'\nc: '010'\n", written)
        self.assertIn("g: plain\n", written)

    def test_old_booleans(self) -> None:
        """`yes` and `off` stay what older readers take for booleans."""
        self.check("a: yes\nb: off\nc: on\n", {"a": "no", "b": "true", "c": "text"}, "a: no\nb: true\nc: text\n")

    def test_own_quotes_of_a_value(self) -> None:
        """A value that brings its own quotes has them in it."""
        written = patched("yaml", "a: x\n", {"a": '"{{env.NAME}}"'})
        self.assertEqual(YAML(typ="safe", pure=True).load(written), {"a": '"Ünïcode 😀"'})

    def test_numbers(self) -> None:
        """Large and fractional numbers are not damaged, and keys may be numbers."""
        self.check(
            "big: 12345678901234567890\nf: 1.5\n8080: a\n",
            {"f": "2.5", "8080": "b"},
            "big: 12345678901234567890\nf: 2.5\n8080: b\n",
        )

    def test_aliases(self) -> None:
        """Anchors and aliases outlive a patch of something else."""
        content = "base: &b\n  x: 1\nother:\n  <<: *b\n  y: 2\nz: 1\n"
        self.check(content, {"z": "2"}, content.replace("z: 1", "z: 2"))

    def test_refusals(self) -> None:
        """What is no YAML object is left alone, and the line is told."""
        self.assertIn("line 2", self.refuse("a: 1\nb: [", {"a": "2"}) + self.refuse("a: 1\nb: }\n", {"a": "2"}))
        for content in ("just text", "a: 1\na: 2\n", "a: 1\n---\nb: 2\n", "\tx: 1\n", "a: *nope\n"):
            self.refuse(content, {"a": "2"})


class TomlTests(Rows):
    parser = "toml"

    def test_values(self) -> None:
        """Comments, order and types stay; missing tables are made; booleans of the egg stay booleans."""
        self.check(
            '# top\ntitle = "x" # t\n\n[server]\nport = 1 # p\nratio = 1.5\nopen = false\nhosts = [\n  1, # one\n]\n',
            {"server.port": PORT, "title": "y", "server.open": "1", "server.ratio": "2.5", "server.hosts.0": "2"},
            '# top\ntitle = "y" # t\n\n'
            "[server]\nport = 25565 # p\nratio = 2.5\nopen = true\nhosts = [\n  2, # one\n]\n",
        )
        written = patched("toml", None, {"server.port": PORT, "server.public": True, "name": "n"})
        self.assertEqual(tomllib.loads(written), {"server": {"port": 25565, "public": True}, "name": "n"})

    def test_refusals(self) -> None:
        """What is no TOML is left alone."""
        for content in ("a = ", "[a]\n[a]\n", "a = 1\na = 2\n", "= 1", "a b = 1"):
            self.refuse(content, {"x": "y"})
