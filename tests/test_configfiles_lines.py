"""Config files made of lines: file, properties, ini (EGGS.md 4)."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stellarstack.core.configfiles import patch
from stellarstack.core.configfiles.properties_file import escape, unescape
from tests.configfile_rows import PORT, Rows, look_up, patched, replacements


class LineFileTests(Rows):
    parser = "file"

    def test_prefix_of_the_raw_line(self) -> None:
        """A line is replaced whole where it begins with the key, blanks included; other lines stay."""
        self.check(
            "name\n  port = 1\n#port =2\nhostname=x\n//password=\n port\n",
            {"name": "name = x", "  port": f"  port = {PORT}", "#port =": "port = 3", "//password=": "//password=p"},
            "name = x\n  port = 25565\nport = 3\nhostname=x\n//password=p\n port\n",
        )

    def test_short_keys_hit_longer_names(self) -> None:
        """A prefix is a prefix: `name` also hits `name_color`, as its author had to know."""
        self.check("name_color=1\n", {"name": "name=x"}, "name=x\n")

    def test_two_keys_on_one_line(self) -> None:
        """Where two keys match one line both values are written, one behind the other."""
        self.check("port_a\n", {"port": "1", "port_": "2"}, "12\n")

    def test_line_ends(self) -> None:
        """CRLF becomes LF, the last line gets its end, nothing is appended and an empty file stays empty."""
        self.check("a\r\nb", {"x": "y"}, "a\nb\n")
        self.check("", {"x": "y"}, "")
        self.check(None, {"x": "y"}, "")

    def test_values_of_several_lines(self) -> None:
        """A value with line breaks becomes several lines, once, however often the server starts."""
        find = {"security:": "security: \r\n  authorization: enabled"}
        once = patched("file", "a\nsecurity:\nb\n", find)
        self.assertEqual(once, "a\nsecurity: \n  authorization: enabled\nb\n")
        self.check(once, find, once)

    def test_empty_value_and_other_types(self) -> None:
        """An empty value blanks the line; numbers and booleans are written as text."""
        self.check("a=1\nb=1\nc=1\n", {"a": "", "b": 5, "c": True}, "\n5\ntrue\n")

    def test_nothing_is_cut(self) -> None:
        """A line far over 64 KiB, and bytes that are no UTF-8, come through whole."""
        long = b"x" * 300_000 + b"\n\xff\xfe\n"
        self.assertEqual(patch("file", b"a\n" + long, replacements({"a": "b"}), look_up), b"b\n" + long)


class PropertiesTests(Rows):
    parser = "properties"

    def test_values(self) -> None:
        """A key's value is replaced; comments, blank lines, order and separators stay; a new key comes last."""
        self.check(
            "#Minecraft\n\nserver-ip=\n! more\nserver-port : 1\nmotd=x\r\n",
            {"server-port": PORT, "server-ip": "0.0.0.0", "query.port": PORT},
            "#Minecraft\n\nserver-ip=0.0.0.0\n! more\nserver-port : 25565\nmotd=x\r\nquery.port=25565\r\n",
        )
        self.check(None, {"server-port": PORT}, "server-port=25565\n")
        self.check("a=1", {"b": 2}, "a=1\nb=2\n")

    def test_forms_of_a_key(self) -> None:
        """Keys end at =, : or a blank, may be escaped, bare or indented, and all that repeat are set."""
        self.check(
            "a 1\n  b=1\nc\nd\\:e=1\nf = 1,\na=2\nabc=1\n",
            {"a": "x", "b": "x", "c": "x", "d:e": "x", "f": "2,"},
            "a x\n  b=x\nc=x\nd\\:e=x\nf = 2,\na=x\nabc=1\n",
        )

    def test_continuations(self) -> None:
        """A value over several lines is one value, and its lines are no keys."""
        self.check("a=1,\\\n   b=2\nc=3\n", {"b": "x", "a": "y"}, "a=y\nc=3\nb=x\n")
        self.check("#a\\\nb=1\n", {"b": "x"}, "#a\\\nb=x\n")
        self.check("a=1\\", {"a": "x"}, "a=x")
        self.check("a=1\\\\\nb=2\n", {"b": "x"}, "a=1\\\\\nb=x\n")

    def test_escapes(self) -> None:
        """All is written in ASCII that Java reads back: pairs of surrogates, quotes, backslashes, a leading blank."""
        self.check("", {"motd": "{{env.NAME}}"}, "motd=\\u00dcn\\u00efcode \\ud83d\\ude00\n")
        self.check("a=x\n", {"a": '"a"\\'}, 'a=\\"a\\"\\\\\n')
        self.check("a=x\n", {"a": " b\nc\t"}, "a=\\ b\\nc\\t\n")
        self.check("", {"a b=c": "d"}, "a\\ b\\=c=d\n")

    def test_unchanged_values_are_not_rewritten(self) -> None:
        """A value that says the same already stays as it was spelt, and `${key}` is nothing special."""
        self.check("a=\\u0041ü\nb=${a}\n", {"a": "Aü", "b": "${a}"}, "a=\\u0041ü\nb=${a}\n")

    def test_if_value(self) -> None:
        """With a condition the key must be there with exactly that value."""
        self.check("a=1\nb=2\n", {"a": {"1": "x"}, "b": {"1": "x"}, "c": {"": "x"}}, "a=x\nb=2\n")

    @settings(deadline=None)
    @given(st.text(max_size=30))
    def test_round_trip(self, value: str) -> None:
        """Any text is read back as it was written, and stays on one line of ASCII."""
        value = value.encode("utf-8", "replace").decode()
        written = escape(value)
        self.assertTrue(written.isascii() and written.splitlines() in ([written], []))
        self.assertEqual(unescape(written), value)


class IniTests(Rows):
    parser = "ini"

    def test_values(self) -> None:
        """Keys are set in their section, comments, blanks and odd lines stay, what is missing is added."""
        self.check(
            "; top\nfree = 1\n[network]\n  server_port = 3979\nserver_name =\njunk line\n\n[other]\na=1\n",
            {
                "network.server_port": PORT,
                "network.server_name": "{{env.NAME}}",
                "network.lan_internet": 0,
                "free": "2",
                "new.b.c": True,
            },
            "; top\nfree = 2\n[network]\n  server_port = 25565\nserver_name =Ünïcode 😀\njunk line\n"
            "lan_internet = 0\n\n[other]\na=1\n"
            "\n[new]\nb.c = true\n",
        )
        self.check(None, {"a.b": "c", "x": "y"}, "x = y\n[a]\nb = c\n")

    def test_sections_with_dots(self) -> None:
        """A bracketed section may hold dots, a key may too, and a colon is nothing special."""
        self.check(
            "[/Script/Astro.AstroServerSettings]\r\nPublicIP=1\r\n",
            {
                "[/Script/Astro.AstroServerSettings].PublicIP": "2",
                "[/Script/Astro.AstroServerSettings].net.AllowEncryption": "False",
                "User:admin.Password": "p",
            },
            "[/Script/Astro.AstroServerSettings]\r\nPublicIP=2\r\nnet.AllowEncryption=False\r\n\r\n[User:admin]\r\nPassword=p\r\n",
        )

    def test_lists_of_one_key(self) -> None:
        """Repeated keys that nobody asked about stay all; one that is asked about is set wherever it stands."""
        self.check("[S]\n+Mod=1\n+Mod=2\nX=1\nX=2\n", {"S.X": "3"}, "[S]\n+Mod=1\n+Mod=2\nX=3\nX=3\n")

    def test_inline_comments(self) -> None:
        """A comment behind a changed value moves above it; a # within a value is none, and an unchanged line stays."""
        self.check("[a]\nb = 1 ; one\nc = My #1 place\nd = 2 # two\n", {"a.b": "2", "a.c": "My #2", "a.d": "2"},
                   "[a]\n; one\nb = 2\nc = My #2\nd = 2 # two\n")  # fmt: skip

    def test_raw_values(self) -> None:
        """Semicolons and quotes are written as they are, without back-quotes; a line break becomes a blank."""
        self.check("[a]\nb=1\n", {"a.b": 'x;y "z" #1'}, '[a]\nb=x;y "z" #1\n')
        self.check("[a]\nb=1\n", {"a.b": "x\n[evil]\r\nc=1"}, "[a]\nb=x [evil] c=1\n")

    def test_conditions(self) -> None:
        """With a condition the key must be there with exactly that value."""
        self.check(
            "[a]\nb=1\nc=1\n",
            {"a.b": {"1": "2"}, "a.c": {"2": "3"}, "a.d": {"": "x"}, "e.f": {"": "x"}},
            "[a]\nb=2\nc=1\n",
        )

    def test_toml_by_ini(self) -> None:
        """An egg that patches TOML by this parser gets its dotted key into the section."""
        self.check("[server]\n", {"server.services.test.token": '"x"'}, '[server]\nservices.test.token = "x"\n')

    def test_repeated_sections_and_comments_behind_them(self) -> None:
        """Of sections with one name the last is set, and a header may have a comment."""
        self.check("[a]\nx=1\n[a] ; again\nx=2\n", {"a.x": "3", "a.y": "4"}, "[a]\nx=1\n[a] ; again\nx=3\ny=4\n")
