"""Blueprint files as text."""

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.documents import load_json, load_text
from stellarstack.errors import BlueprintInvalid, TooLarge


class LoadTextTests(SynchronousTestCase):
    def test_three_formats(self) -> None:
        """JSON, TOML and YAML of the same content give the same object."""
        expected = {"id": "a", "ports": [{"container": 1}], "on": True}
        self.assertEqual(load_text('\ufeff{"id": "a", "ports": [{"container": 1}], "on": true}', "x.json"), expected)
        self.assertEqual(load_text('id = "a"\non = true\n[[ports]]\ncontainer = 1\n', "x.TOML"), expected)
        self.assertEqual(load_text('id: a\nports:\n- container: 1\n"on": true\n', "x.yaml"), expected)
        self.assertEqual(load_text('id: a\nports: [{container: 1}]\n"on": true\n', "x.yml"), expected)

    def test_odd_values_become_json(self) -> None:
        """Dates and keys that are no strings become strings; of a repeated key in JSON the last counts."""
        self.assertEqual(
            load_text("at: 2025-07-01\n8: x\ntrue: y\n", "x.yml"), {"at": "2025-07-01", "8": "x", "true": "y"}
        )
        self.assertEqual(load_text('{"done": "a", "done": "b"}', "x.json"), {"done": "b"})

    def test_refusals_name_the_file(self) -> None:
        """What cannot be read is refused in one line that names the file."""
        for text, name in [
            ("{", "x.json"), ("[]", "x.json"), ('{"a": NaN}', "x.json"), ("a = ", "x.toml"), ("a: [", "x.yaml"),
            ("a: .nan", "x.yaml"), ("- a", "x.yml"), ("a: !!python/object:os.system x", "x.yml"),
            ("? [a]\n: b", "x.yml"),
            ("{}", "x.txt"), ("{}", "x"), ("a: !!binary aGk=", "x.yml"), ("", "x.yml"),
        ]:  # fmt: skip
            error = self.assertRaises(BlueprintInvalid, load_text, text, name)
            self.assertTrue(str(error).startswith(f"{name}: "), error)
            self.assertNotIn("\n", str(error))

    def test_bombs(self) -> None:
        """W19: aliases, nesting, endless lists and sheer size are refused before they grow."""
        for text, name in [
            ("a: &a [x]\nb: [*a, *a]\n", "x.yaml"), ("[" * 100_000, "x.json"),
            ('{"a":' * 100 + "1" + "}" * 100, "x.json"),
            ("[" * 1000, "x.yaml"), ("a: " + "[" * 100 + "]" * 100, "x.yaml"), ("a = " + "[" * 5000, "x.toml"),
            ("a = " + "[" * 900 + "]" * 900, "x.toml"), ("a." * 500 + "b = 1", "x.toml"),
            ("[" + "1," * 300_000 + "1]", "x.json"), ("- a\n" * 60_000, "x.yaml"),
        ]:  # fmt: skip
            self.assertRaises(BlueprintInvalid, load_text, text, name)
        self.assertRaises(TooLarge, load_text, "x" * (2 << 20) + "x", "x.json")

    def test_brackets_in_strings_are_no_nesting(self) -> None:
        """Only brackets outside of strings nest."""
        self.assertEqual(load_json('{"a": "' + "[" * 1000 + '\\"[["}'), {"a": "[" * 1000 + '"[['})
