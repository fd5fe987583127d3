"""Placeholders: a closed list, put in once."""

import subprocess

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.placeholders import Values, egg_value, expand, expand_shell, native_value, unknown_names
from tests.examples import examples

VALUES = Values(
    "srv_1", "0.0.0.0", 25565, 1024, {"NAME": "world", "srv_name": "x", "EVIL": "{{server.id}}"}, "Shown", "10.0.0.1"
)


def native(name: str) -> str | None:
    return native_value(VALUES, name)


def egg(name: str) -> str | None:
    return egg_value(VALUES, name)


class ExpandTests(SynchronousTestCase):
    def test_native_names(self) -> None:
        """PROTOCOL 12: the server's own values and environment variables by their names."""
        text = "{{server.id}} {{server.ip}} {{server.port}} {{server.memory}} {{NAME}} {{ NAME }}"
        self.assertEqual(expand(text, native), "srv_1 0.0.0.0 25565 1024 world world")

    def test_egg_names(self) -> None:
        """EGGS.md 4: both panels' spellings, the legacy ones, and nothing for what a server has not."""
        for name, value in {
            "server.build.default.port": "25565",
            "server.allocations.default.port": "25565",
            "server.build.default.ip": "0.0.0.0",
            "server.allocations.default.ip": "0.0.0.0",
            "server.build.memory": "1024",
            "server.build.memory_limit": "1024",
            "server.build.env.NAME": "world",
            "server.environment.NAME": "world",
            "server.build.env.srv_name": "x",
            "server.build.env.SRV_NAME": "x",
            "server.build.env.ADM_PASSWORD": "",
            "server.build.env.SERVER_PORT": "25565",
            "env.SERVER_PORT": "25565",
            "env.SERVER_IP": "0.0.0.0",
            "env.SERVER_MEMORY": "1024",
            "env.NAME": "world",
            "server.something.else": "",
            "config.docker.interface": "10.0.0.1",
            "config.docker.network.interface": "10.0.0.1",
        }.items():
            self.assertEqual(egg(name), value, name)

    def test_nothing_of_the_daemon(self) -> None:
        """W17: no key of the daemon's own configuration can be named, whatever the spelling."""
        for name in [
            "config.token",
            "config.api.token",
            "config.node.api_token",
            "config.docker",
            "NODE_API_TOKEN",
            "config.",
            "x",
        ]:
            self.assertIsNone(egg(name), name)
            self.assertIsNone(native(name), name)
            self.assertEqual(expand(f"{{{{{name}}}}}", egg), f"{{{{{name}}}}}")

    def test_once(self) -> None:
        """W17: what was put in is not looked at again, nested braces neither."""
        self.assertEqual(expand("{{EVIL}}", native), "{{server.id}}")
        self.assertEqual(expand("{{env.EVIL}} {{{{env.NAME}}}}", egg), "{{server.id}} {{world}}")

    def test_no_other_language(self) -> None:
        """C02: expressions of template languages are text."""
        for text in [
            "{{7*7}}",
            "{% x %}",
            "%(x)s",
            "{0.__class__}",
            "{x.__init__}",
            "${NAME}",
            "$NAME",
            "{{",
            "{{}}",
            "{{a b}}",
        ]:
            self.assertEqual(expand(text, egg), text)
            self.assertEqual(expand(text, native), text)

    def test_unknown_names(self) -> None:
        """The names that are on no list are told in order."""
        self.assertEqual(unknown_names("{{NOPE}} {{NAME}} {{config.token}}", native), ["NOPE", "config.token"])


class ShellTests(SynchronousTestCase):
    def look_up(self, value: str):  # type: ignore[no-untyped-def]
        return {"V": value, "server.port": "1", "a.b": value}.get

    def test_plain_values_are_put_in(self) -> None:
        """A harmless value stands in the command as it is."""
        self.assertEqual(
            expand_shell("./game --port {{server.port}} '{{V}}'", self.look_up("ab.c")), "./game --port 1 'ab.c'"
        )

    def test_quotes(self) -> None:
        """Any other value becomes a reference that fits the quotes around it."""
        self.assertEqual(
            expand_shell("a {{V}} \"{{V}}\" '{{V}}' \\'{{V}}", self.look_up("x y")),
            "a ${V} \"${V}\" ''\"${V}\"'' \\'${V}",
        )

    def test_unknown_stays(self) -> None:
        """What is not known is not touched."""
        self.assertEqual(expand_shell("{{NOPE}}", self.look_up("x")), "{{NOPE}}")

    def test_name_that_no_shell_knows(self) -> None:
        """A name that cannot be referred to is refused rather than put in unquoted."""
        self.assertRaises(ValueError, expand_shell, "{{a.b}}", self.look_up("x y"))

    @examples(30)
    @given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r\n"), max_size=30))
    def test_no_value_is_code(self, value: str) -> None:
        """W17: run by a real shell, any value arrives as text in both kinds of quotes, and none is executed."""
        command = expand_shell("printf '<%s>' \"{{V}}\" '{{V}}' 'a{{V}}b'", self.look_up(value))
        ran = subprocess.run(["/bin/sh", "-c", command], env={"V": value}, capture_output=True, check=True)
        self.assertEqual(ran.stdout.decode(), f"<{value}><{value}><a{value}b>")
