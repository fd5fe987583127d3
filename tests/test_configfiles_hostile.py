"""What nobody may get out of a config file, nor do to the daemon by one."""

import json
import tomllib
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import Replacement
from stellarstack.core.configfiles import patch
from stellarstack.errors import BlueprintInvalid, StellarError, TooLarge
from tests.configfile_rows import ALL, PORT, look_up, patched, replacements
from tests.examples import TIMES, examples


class HostileTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """W19: over its cap no file is read at all."""
        for parser in ALL:
            most = {"yaml": 512 << 10, "yml": 512 << 10, "toml": 256 << 10}.get(parser, 5 << 20)
            self.assertRaises(TooLarge, patch, parser, bytes(most + 1), replacements({"a": "b"}), look_up)

    def test_shapes(self) -> None:
        """W19: nesting, endless lists, aliases of aliases and endless lines are refused or pass, quickly and whole."""
        laughs = "a: &a [x,x,x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(20)
        )
        size = min(4, TIMES)  # in quarters of what they are in the integration part
        contents = (
            "[" * (5_000 * size), "{" * (5_000 * size), '{"a":' * (1250 * size),
            "[" + "1," * (15_000 * size) + "1]", laughs, "a.b." * 1000 + "c = 1",
            "x" * (25_000 * size), "\n" * (30_000 * size), " " * (25_000 * size), "a\\\n" * (5_000 * size), "&" * 1000,
            "[a]\nb" + " " * (25_000 * size), "[a]\nb=x" + " " * (25_000 * size),
        )  # fmt: skip
        for content in contents:
            for parser in ALL:
                try:
                    patched(parser, content, {"zz.b": "c", "a.b": "d"})
                except StellarError as error:
                    self.assertNotIn("\n", str(error))

    def test_parser_names(self) -> None:
        """P05: a parser is looked up in a closed list."""
        for parser in ("../yaml", "YAML ", "", "/etc/passwd", "yaml\0", "patch_yaml"):
            self.assertRaises(BlueprintInvalid, patch, parser, b"", [], look_up)

    def test_keys_are_never_expanded(self) -> None:
        """EGGS 4: what looks like a placeholder in a key is part of the key; only values are filled in."""
        for parser, content, expected in [
            ("file", f"{PORT}=a\n25565=b\n", "v25565\n25565=b\n"),
            ("properties", f"{PORT}=a\n25565=b\n", f"{PORT}=v25565\n25565=b\n"),
            ("ini", "[{{env]\nNAME}} = a\n[Ünïcode 😀]\nx = b\n", "[{{env]\nNAME}} = v25565\n[Ünïcode 😀]\nx = b\n"),
            ("json", '{"{{env":{"NAME}}":"a"},"Ünïcode 😀":"b"}', '{"{{env":{"NAME}}":"v25565"},"Ünïcode 😀":"b"}'),
            ("yaml", "'{{env':\n  NAME}}: a\n25565: b\n", "'{{env':\n  NAME}}: v25565\n25565: b\n"),
            ("toml", "['{{env']\n'NAME}}' = \"a\"\n", "['{{env']\n'NAME}}' = \"v25565\"\n"),
        ]:
            key = PORT if PORT in content else "{{env.NAME}}"
            self.assertEqual(patched(parser, content, {key: f"v{PORT}"}), expected, parser)

    def test_secrets_and_templates_stay_text(self) -> None:
        """W17, C02: what a tenant or an egg's author writes is never a key of the daemon's and never code."""
        texts = [
            "{{config.token}}",
            "{{config.node.api_token}}",
            "{{7*7}}",
            "{% x %}",
            "%(x)s",
            "{0.__class__}",
            "{x.__init__}",
            "${HOME}",
            "{{env.EVIL}}",
        ]
        for parser in ALL:
            key = "a.b" if parser != "file" else "line"
            base = {"json": "{}", "file": "line\n", "xml": "<a/>"}.get(parser, "")
            for text in texts:
                written = patched(parser, base, {key: text})
                expected = "{{config.token}} {{env.NAME}} $1" if text == "{{env.EVIL}}" else text
                self.assertIn(expected, written, parser)

    @examples(40)
    @given(
        st.sampled_from(ALL),
        st.one_of(
            st.binary(max_size=60), st.text(alphabet="{}[]<>/=:#\"'\\ \n\r\tab1.-&*|", max_size=60).map(str.encode)
        ),
    )
    def test_any_bytes(self, parser: str, content: bytes) -> None:
        """K13: on any content a patch succeeds or is refused with one clear error."""
        try:
            patch(parser, content, replacements({"a.b": "c", "a[0].b": PORT, "x.*.y": {"1": "2"}}), look_up)
        except StellarError as error:
            self.assertTrue(str(error))

    @examples(15)
    @given(st.text(alphabet=st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20))
    def test_any_value_arrives(self, value: str) -> None:
        """Any value is read back by the format's own reader as it was put in."""
        item = [Replacement("a.b", value.replace("{{", ""))]
        value = value.replace("{{", "")
        self.assertEqual(json.loads(patch("json", None, item, look_up)), {"a": {"b": value}})
        self.assertEqual(tomllib.loads(patch("toml", None, item, look_up).decode()), {"a": {"b": value}})
        self.assertEqual(
            YAML(typ="safe", pure=True).load(StringIO(patch("yaml", None, item, look_up).decode())), {"a": {"b": value}}
        )
