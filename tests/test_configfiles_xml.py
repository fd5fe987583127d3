"""XML config files (EGGS.md 4)."""

from xml.etree import ElementTree

from stellarstack.core.configfiles import patch
from stellarstack.errors import BlueprintInvalid
from tests.configfile_rows import PORT, Rows, look_up, patched, replacements


class XmlTests(Rows):
    parser = "xml"

    def test_values(self) -> None:
        """Text is set, missing elements are made, comments, attributes and layout stay."""
        self.check(
            '<?xml version="1.0"?>\n<!-- top -->\n<server a="1">\n    <!-- c -->\n'
            "    <servername>Old</servername>\n    <port>1</port>\n</server>\n",
            {"server.servername": "{{env.NAME}} <&>", "server.port": PORT, "server.new.deep": "x"},
            '<?xml version="1.0"?>\n<!-- top -->\n<server a="1">\n    <!-- c -->\n'
            "    <servername>Ünïcode 😀 &lt;&amp;&gt;</servername>\n"
            "    <port>25565</port>\n    <new>\n        <deep>x</deep>\n    </new>\n</server>\n",
        )

    def test_empty(self) -> None:
        """An empty or missing file gets the root of the first path."""
        expected = '<?xml version="1.0" encoding="UTF-8"?>\n<server>\n  <port>25565</port>\n</server>\n'
        self.check("", {"server.port": PORT}, expected)
        self.check(None, {"server.port": PORT}, expected)
        self.assertIn("<config/>", patched("xml", "", {}))

    def test_all_matches(self) -> None:
        """Every element of the name is set; a * sets what is there and makes nothing."""
        self.check("<a><b>1</b><b>2</b></a>\n", {"a.b": "x"}, "<a><b>x</b><b>x</b></a>\n")
        self.check(
            "<a><b><c>1</c></b><d><c>2</c></d></a>",
            {"a.*.c": "x", "a.*.e": "y"},
            "<a><b><c>x</c></b><d><c>x</c></d></a>\n",
        )

    def test_attributes(self) -> None:
        """A value [name='text'] sets that attribute, new or not."""
        self.check('<a><b x="1"/></a>\n', {"a.b": "[x='{{env.NAME}}']"}, '<a><b x="Ünïcode 😀"/></a>\n')
        self.check("<a><b/></a>\n", {"a.b": "[y='2']"}, '<a><b y="2"/></a>\n')

    def test_predicates(self) -> None:
        """An element may be chosen by an attribute, a child's text or its number; dots in brackets are no steps."""
        content = '<s><p name="Port" value="1"/><p name="a.b" value="2"/><q><k>x</k><v>1</v></q></s>\n'
        self.check(content, {"s.p[@name='Port']": "[value='9']"}, content.replace('value="1"', 'value="9"'))
        self.check(content, {"s.p[name='a.b']": "[value='9']"}, content.replace('value="2"', 'value="9"'))
        self.check(content, {"s.q[k='x'].v": "9"}, content.replace("<v>1", "<v>9"))
        self.check(content, {"s.p[2]": "[value='9']"}, content.replace('value="2"', 'value="9"'))
        self.check(content, {"s.p[0]": "x", "s.p[@name='None']": "x"}, content)
        for path in ("s.p[@name]", "s.1p", "s.", "s..p", "s.p x"):
            if path not in ("s.", "s..p"):
                self.refuse(content, {path: "x"})

    def test_another_root(self) -> None:
        """A path with another root matches nothing and leaves no rubbish."""
        self.check("<a><b/></a>\n", {"c.b": "x"}, "<a><b/></a>\n")

    def test_conditions(self) -> None:
        """With a condition the element, or its attribute, must be there with that text."""
        self.check('<a><b x="1">1</b></a>\n', {"a.b": {"1": "2"}, "a.c": {"": "x"}}, '<a><b x="1">2</b></a>\n')
        self.check('<a><b x="1"/></a>\n', {"a.b": {"2": "[x='3']"}}, '<a><b x="1"/></a>\n')

    def test_other_texts(self) -> None:
        """CDATA becomes text, one line stays one line, and characters that XML cannot hold are left out."""
        self.check("<a><b><![CDATA[<x>]]></b></a>\n", {"a.b": "y"}, "<a><b>y</b></a>\n")
        self.check("<a><b>1</b></a>\n", {"a.c": "y\x00\x01"}, "<a><b>1</b><c>y</c></a>\n")
        self.check("<a><b>1</b></a>", {"a.b": "1"}, "<a><b>1</b></a>\n")
        self.check("<a></a>\n", {"a.b": "1"}, "<a>\n  <b>1</b>\n</a>\n")

    def test_encodings(self) -> None:
        """A declared Latin-1 stays Latin-1, with references for what it cannot hold; broken UTF-8 is refused."""
        content = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<a><b>é</b></a>\n'.encode("latin-1")
        written = patch("xml", content, replacements({"a.c": "{{env.NAME}}"}), look_up)
        self.assertIn("<b>é</b><c>Ünïcode &#128512;</c>".encode("latin-1"), written)
        self.assertEqual(ElementTree.fromstring(written).findtext("c"), "Ünïcode 😀")
        self.assertRaises(BlueprintInvalid, patch, "xml", b"<a>\xff</a>", replacements({"a": "x"}), look_up)

    def test_refusals(self) -> None:
        """W19: no document types, no entities, nothing unfinished, and nothing too deep."""
        bomb = '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
        for content in (
            bomb,
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
            "<a>",
            "text",
            "<a/><b/>",
            "<a>" * 80 + "</a>" * 80,
            "<a/>" * 60_000,
        ):
            self.refuse(content, {"a": "x"})
