"""Eggs in every shape that people write and panels take (EGGS.md 1, 6, 7): none is refused, and each makes a server."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.blueprint import Blueprint, parse_blueprint
from stellarstack.core.configfiles.of_server import file_path, patch_file
from stellarstack.core.container_spec import Placement, install_body, run_body
from stellarstack.core.documents import load_text
from stellarstack.core.ready import ReadyMatcher
from stellarstack.core.spec import ServerSpec, parse_server_config, resolve
from stellarstack.core.stop import stop_steps
from stellarstack.errors import BlueprintInvalid

PLACEMENT = Placement("node_1", "node_1.s", 988, 988, "/srv/s", "node_1.s", install_path="/srv/i")
BASE: dict[str, Any] = {
    "_comment": "DO NOT EDIT",
    "meta": {"version": "PTDL_v2", "update_url": None},
    "exported_at": "2024-01-01T00:00:00+00:00",
    "name": "Test",
    "author": "a@b.c",
    "description": "",
    "features": None,
    "docker_images": {"One": "a/b:1"},
    "file_denylist": [],
    "startup": "./x",
    "config": {"files": "{}", "startup": '{"done": "Done"}', "logs": "{}", "stop": "stop"},
    "scripts": {"installation": {"script": "#!/bin/bash\r\nexit 0\r\n", "container": "a/i:1", "entrypoint": "bash"}},
    "variables": [],
}


def variable(name: str = "A", **keys: Any) -> dict[str, Any]:
    return {
        "name": "A",
        "description": "",
        "env_variable": name,
        "default_value": "",
        "user_viewable": True,
        "user_editable": True,
        "rules": "nullable|string",
        "field_type": "text",
        **keys,
    }


def config(**keys: Any) -> dict[str, Any]:
    return {"config": {**BASE["config"], **keys}}


def files(**entries: Any) -> dict[str, Any]:
    return config(files=json.dumps(entries))


def one_file(parser: str, find: Any, name: str = "a.cfg") -> dict[str, Any]:
    return config(files=json.dumps({name: {"parser": parser, "find": find}}, indent=4).replace("\n", "\r\n"))


def script(**keys: Any) -> dict[str, Any]:
    return {"scripts": {"installation": {**BASE["scripts"]["installation"], **keys}}}


DEFAULTS: tuple[Any, ...] = (
    0,
    1.5,
    True,
    False,
    None,
    [],
    {},
    "",
    "0",
    " ",
    "a\nb",
    "ä€😀",
    "x" * 5000,
    "{{SERVER_PORT}}",
    "$(id)",
    "'\"",
)
# What makes each of them odd -> the keys that differ from BASE.
ODD: dict[str, dict[str, Any]] = {
    "as most are": {},
    "sftp: an empty done": config(startup='{"done": ""}'),
    "minio: done twice": config(startup='{"done": "one", "done": "two"}'),
    "done: a list": config(startup='{"done": ["a", "b", "c"]}'),
    "done: a list of one": config(startup={"done": ["a"]}),
    "done: null": config(startup='{"done": null}'),
    "done: a number": config(startup='{"done": 5}'),
    "done: an object": config(startup='{"done": {"0": "a"}}'),
    "done: an expression": config(startup='{"done": "regex:^Done \\\\([0-9.]+s\\\\)"}'),
    "done: a broken expression": config(startup='{"done": "regex:(("}'),
    "done: an expression that looks around": config(startup='{"done": "regex:(?<=x)y(?!z)"}'),
    "done: nothing after regex:": config(startup='{"done": "regex:"}'),
    "legacy userInteraction": config(startup='{"done": "x", "userInteraction": ["go to http"]}'),
    "userInteraction as an object": config(startup={"done": "x", "userInteraction": {}, "strip_ansi": "true"}),
    "startup: empty string": config(startup=""),
    "startup: JSON null": config(startup="null"),
    "startup: a PHP list": config(startup="[]"),
    "startup with CRLF": config(startup='{\r\n    "done": "x"\r\n}'),
    "legacy logs": config(logs='{"custom": false, "location": "logs/latest.log"}'),
    "logs that are nothing": config(logs=None),
    "config: null": {"config": None},
    "config: a PHP list": {"config": []},
    "config: a string of JSON": {"config": json.dumps({"stop": "^C", "files": {}, "startup": {"done": "x"}})},
    "files: an object": config(files={"a.yml": {"parser": "yaml", "find": {"a.b": "c"}}}),
    "files: empty": config(files=""),
    "files: null": config(files=None),
    "files: a PHP list": config(files="[]"),
    "files: blank": config(files=" \r\n"),
    "files: keys nobody knows": one_file("json", {"a": "b"}) | {"x-extra": {"y": 1}},
    "file without find": files(a={"parser": "json"}),
    "find: a PHP list": files(a={"parser": "ini", "find": []}),
    "file that is a string": files(a="text"),
    "file without parser": files(a={"find": {"a": "b"}}),
    "parser nobody knows": one_file("hocon", {"a": "b"}),
    "parser in capitals": one_file("YAML", {"a": "b"}),
    "parser with blanks": one_file(" yml ", {"a": "b"}),
    "parser: null": files(a={"parser": None, "find": {"a": "b"}}),
    "files below /": one_file(
        "properties", {"server-port": "{{server.build.default.port}}"}, "/properties/server.properties"
    ),
    "risk of rain: blanks in a name, an empty value": one_file("file", {"a": ""}, "./Risk of Rain 2_Data/a.cfg"),
    "a dot folder": one_file("file", {"  port": "  port: {{env.SERVER_PORT}}"}, "/.local/share/x.sii"),
    "values: every type": one_file("json", {"a": 1, "b": True, "c": None, "d": 1.5, "e": ["x"], "f": "t", "g": 2**70}),
    "values: maps": one_file(
        "yaml", {"servers.*.address": {"127.0.0.1": "{{config.docker.interface}}", "regex:^l(.*)": "$1"}}
    ),
    "values: maps in maps": one_file("json", {"a": {"b": {"c": "d"}}}),
    "values: types in xml": one_file("xml", {"a.b": 1, "a.c": True, "a.d": "[x='1']"}),
    "values: types in ini": one_file("ini", {"a.b": 0, "[/Script/A.B].Key": True, "User:admin.Password": None}),
    "values: types in properties": one_file("properties", {"a": 1, "b": False, "c": 1.5}),
    "values: types in lines": one_file("file", {"a": 1, "b": False, "c": None}),
    "values: types in toml": one_file("toml", {"a.b": 1, "a.c": [1, "x"], "a.d": 1.5}),
    "values: CR and newline": one_file("file", {"security:": "security: \r\n  authorization: on"}),
    "values: quotes of their own": one_file("yaml", {"a": '"{{server.build.env.A}}"'}),
    "values: blanks in braces": one_file("file", {"a": "{{ server.build.env.A }} {{NAME}} {{config.token}}"}),
    "clusterio: ~1": one_file("json", {"controller~1http_port": "1", "a~0b": "2"}),
    "5e-tools: listen.0": one_file("json", {"listen.0": "x", "listeners[0].host": "y", "l[0]": "z"}),
    "rathole: ini on TOML": one_file("ini", {"server.services.test.token": "x", "server.bind_addr": '"y"'}, "a.toml"),
    "several files of one parser": files(a={"parser": "file", "find": {"x": "y"}}, b={"parser": "file", "find": {}}),
    "a variable in a file's name": one_file("ini", {"a": "b"}, "{{A}}/${A}.ini"),
    "variables nobody defined": one_file("json", {"a": "{{server.build.env.NOPE}}{{env.NOPE}}{{server.nope}}"}),
    "Pelican's spellings": one_file("json", {"a": "{{server.allocations.default.port}}{{server.environment.A}}"}),
    "create_file": files(a={"parser": "json", "find": {"a": "b"}, "create_file": False}),
    **{
        f"stop {word!r}": config(stop=word)
        for word in (
            "^C",
            "^c",
            "^^C",
            "^X",
            "^SIGTERM",
            "^SIGNOPE",
            "^",
            "^^",
            "stop",
            "/quit",
            "c_shutdown()",
            "shutdown; exit;",
            "saveandexit 0",
            "/shutdown 3 SIGTERM Server shutting down...",
            "",
            None,
            5,
            " stop ",
            "end\r\n",
            ["stop"],
            "ä",
        )
    },
    "images: a list": {"docker_images": ["a/b:1", "c/d"]},
    "images: one string": {"docker_images": "a/b"},
    "feather: images in a v2": {"docker_images": None, "images": ["a/b:1"]},
    "an empty map beside images": {"docker_images": {}, "images": ["a/b:1"]},
    "image": {"docker_images": None, "image": "quay.io/x/y:z"},
    "a local image": {"docker_images": {"L": "~a/b:1"}},
    "blanks around images": {"docker_images": {" Java 8 ": " a/b:1 ", "None": None}},
    "many images": {"docker_images": {f"Java {n}": f"ghcr.io/a/b:java_{n}" for n in range(30)}},
    "an image by its digest": {"docker_images": {"a": "a/b@sha256:" + "0" * 64}},
    "features: a list": {"features": ["eula", "java_version", "pid_limit"]},
    "features: a map": {"features": {"e": ["x"]}},
    "features: a map of strings": {"features": {"e": "x", "f": None, "g": {}}},
    "features: a string": {"features": "eula"},
    "features: of no sense": {"features": 5},
    "krypton: denylist a string": {"file_denylist": ""},
    "denylist: null": {"file_denylist": None},
    "denylist: one string": {"file_denylist": "PalServer.sh"},
    "denylist: a map": {"file_denylist": {"1": "forgejo"}},
    "denylist: patterns": {"file_denylist": ["*.jar", "!a", "/b/**"]},
    "startup: none": {"startup": None},
    "startup: empty": {"startup": ""},
    "startup: a number": {"startup": 7},
    "startup: a whole script": {
        "startup": "if [[ {{A}} == 1 ]]; then\r\n  ./a $(({{A}}*1000)) `b`\r\nelse ./c ${x[1]}; fi"
    },
    "startup: a typo": {"startup": "./x {{SERVER_NAME}] {{ A }} {{a.b}}"},
    "startup: a quoted path": {"startup": "\"./Holdfast NaW.x86_64\" -x '{{A}}'"},
    "startup: with NUL": {"startup": "./x\0 y"},
    "startup_commands": {"startup_commands": {"Default": "./x", "Debug": "./x -d"}},
    "installation: a PHP list": {"scripts": {"installation": []}},
    "scripts: null": {"scripts": None},
    "scripts: a PHP list": {"scripts": []},
    "installation: null": {"scripts": {"installation": None}},
    "script: null": script(script=None),
    "script: huge": script(script="echo x\r\n" * 100_000),
    "script: no shebang": script(script="apt update\ncurl x"),
    "script: a broken shebang": script(script="#/bin/bash\nx"),
    "script: old Mac lines": script(script="a\rb\r"),
    "script: BOM": script(script="\ufeff#!/bin/bash\n"),
    "entrypoint: a path": script(entrypoint="/bin/bash"),
    "entrypoint: with words": script(entrypoint="bash -e"),
    "entrypoint: ash": script(entrypoint="ash"),
    "entrypoint: null": script(entrypoint=None),
    "entrypoint: a list": script(entrypoint=["bash"]),
    "container: null": script(container=None),
    "container: with blanks": script(container=" a/i:1 "),
    "variables: null": {"variables": None},
    "variables: a map": {"variables": {"0": variable(), "2": variable("B")}},
    "variables: of no sense": {"variables": "none"},
    "variables: with a hole": {"variables": [None, variable()]},
    "mordhau: a variable twice": {"variables": [variable(), variable(default_value="x")]},
    **{
        f"a variable {name!r}": {"variables": [variable(name)]}
        for name in (
            "srv_name",
            "Version",
            "with-dash",
            "1ST",
            "_X",
            "X" * 191,
            " PAD ",
            "GRÖSSE",
            "HOSTNAME",
            "LD_LIBRARY_PATH",
            "STARTUP",
            "SERVER_PORT",
            "PATH",
        )
    },
    **{f"a default {value!r}": {"variables": [variable(default_value=value)]} for value in DEFAULTS},
    **{
        f"rules {rules!r}"[:70]: {"variables": [variable(rules=rules, default_value="abc")]}
        for rules in (
            "",
            None,
            [],
            {},
            "required",
            "required|string|max:20|",
            "|",
            "nullable",
            ["required", "string"],
            {"0": "required"},
            "required|regex:/^(a|b|c)+$/|max:80",
            "regex:([a-z-0-9]+$)",
            "regex:/((/",
            "regex:#^a#i",
            "in:abc,Moon",
            "in:,abc",
            'in:"abc",b',
            "sometimes|required_if:B,1",
            "present",
            "size:3",
            "between:1,5",
            "digits_between",
            "max",
            "exclude_unless:x,y",
            "date",
            "timezone",
            "file",
            "unknown_rule:1,2",
            [["required"], 5, None, "max:9"],
            5,
            "required|string|not_regex:/[^a-z]/",
            "alpha_dash",
            "alpha_num|min:1",
            "numeric_or_not",
            "bail|required",
        )
    },
    **{
        f"flags {value!r}": {"variables": [variable(user_viewable=value, user_editable=value)]}
        for value in (0, 1, "1", "0", "true", None, "yes")
    },
    "a select field": {"variables": [variable(field_type="select", sort=None, id=5, egg_id=1)]},
    "name: none": {"name": None},
    "name: a number": {"name": 2048},
    "name: another alphabet": {"name": "我的世界"},
    "name: signs": {"name": "!!!"},
    "name: long": {"name": "x" * 5000},
    "name: blank": {"name": " "},
    "author and description: none": {"author": None, "description": None},
    "description: long": {"description": "x\r\n" * 9000},
    "uuid": {"uuid": "1f0a7a51-5d4e-4a73-8b4e-2f6d6f0f6f10"},
    "uuid: of no sense": {"uuid": "{not one}"},
    "tags": {"tags": ["a", 1], "image_url": None, "icon": "data:x"},
    **{version: {"meta": {"version": version}} for version in ("PTDL_v1", "PTDL_v2", "PLCN_v1", "PLCN_v2", "PLCN_v3")},
    "only what must be": {key: None for key in BASE if key not in ("meta", "docker_images")},
}


def server_of(found: Blueprint) -> ServerSpec:
    """A server of it. What its rules ask for is given: a panel would ask its user."""
    order: dict[str, Any] = {"memory": 512, "ports": [25570]}
    last: Exception | None = None
    for word in ("", "abc", "1", "a", "http://x.example", "1.2.3.4", "x" * 20):
        env = {one.key: word for one in found.variables} if word else {}
        try:
            order["env"] = env
            return resolve("srv_1", "", found, parse_server_config({"config": order}))
        except Exception as error:
            last = error
    assert last is not None
    raise last


def live(found: Blueprint) -> None:
    """All that a server's life asks of an egg."""
    spec = server_of(found)
    bodies = [run_body(spec, PLACEMENT)] + ([install_body(spec, PLACEMENT)] if found.install else [])
    json.dumps(bodies).encode()
    ReadyMatcher(found.ready.patterns).matches("abc")
    stop_steps(found.stop, 30)
    for file in found.config_files:
        file_path(spec, file)
        first = patch_file(spec, file, None, interface="172.18.0.1")
        patch_file(spec, file, first, interface="172.18.0.1")
    stored = json.loads(json.dumps(found.to_json()))
    if Blueprint.from_json(stored) != found or ServerSpec.from_json(json.loads(json.dumps(spec.to_json()))) != spec:
        raise AssertionError("it does not come back from the store as it was")


def everywhere(egg: dict[str, Any]) -> None:
    """As a file with and without BOM, with CRLF, pretty and in one line; and as an object in a command."""
    texts = [json.dumps(egg), json.dumps(egg, indent=4, ensure_ascii=False).replace("\n", "\r\n")]
    found = [parse_blueprint(egg)]
    found += [parse_blueprint(load_text(mark + text, "egg.json")) for text in texts for mark in ("", "\ufeff")]
    if len({json.dumps(one.to_json()) for one in found}) != 1:
        raise AssertionError("it is read differently from a file")
    live(found[0])


class ShapeTests(SynchronousTestCase):
    def test_none_is_refused(self) -> None:
        """Every odd shape is read, makes a server with its containers, matches, stops and patches its files."""
        self.assertGreater(len(ODD), 150)
        refused = {}
        for what, keys in ODD.items():
            try:
                everywhere({**BASE, **keys})
            except Exception as error:  # all of them are wanted, not only the first
                refused[what] = f"{type(error).__name__}: {error}"
        self.assertEqual(refused, {})

    def test_names_of_files(self) -> None:
        """An egg's file may be called anything: where that is no id, one is made."""
        for name, expected in (
            ("egg-paper", "egg-paper"),
            ("egg My Game (1)", "egg-my-game-1"),
            ("我", None),
            ("x" * 200, "x" * 64),
            (".hidden", "hidden"),
        ):
            found = parse_blueprint(BASE, default_id=name).id
            self.assertTrue(found == expected or (expected is None and found.startswith("blueprint-")), (name, found))

    def test_what_a_panel_refuses_too(self) -> None:
        """No image, no version that is known, no JSON where JSON must be: refused, naming the key."""
        for key, keys in {
            "meta.version": {"meta": {"version": "PTDL_v9"}},
            "config.files": config(files="{"),
            "config.startup": config(startup="Done"),
            "docker_images": {"docker_images": {}},
            "variables[0].env_variable": {"variables": [variable("A=B")]},
        }.items():
            error = self.assertRaises(BlueprintInvalid, everywhere, {**BASE, **keys})
            self.assertTrue(str(error).startswith(key), error)


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
NAME = st.text("ABCdef_09-", min_size=1, max_size=12)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**40), st.floats(allow_nan=False, allow_infinity=False, width=32), TEXT
)
PARSER = st.sampled_from(["file", "properties", "json", "yaml", "yml", "ini", "xml", "toml", "other", ""])
KEY = st.lists(st.text("abcXYZ_", min_size=1, max_size=5), min_size=1, max_size=3).map(".".join)
FIND: st.SearchStrategy[Any] = st.one_of(
    st.just([]), st.dictionaries(KEY, st.one_of(SCALAR, st.dictionaries(NAME, TEXT, max_size=2)), max_size=3)
)
FILES = st.one_of(
    st.none(),
    st.just(""),
    st.just([]),
    st.dictionaries(
        st.text("abc./ _-", min_size=1, max_size=12).map(lambda t: "f" + t.replace("..", "")),
        st.fixed_dictionaries({"parser": PARSER, "find": FIND}),
        max_size=3,
    ),
)
DONE = st.one_of(st.none(), TEXT, TEXT.map("regex:".__add__), st.lists(TEXT, max_size=3))
RULE = st.sampled_from(["nullable", "string", "max:900", "sometimes", "regex:/.*|x/", "odd:1", "min:0", "", "bail"])
RULES = st.one_of(st.none(), st.lists(RULE, max_size=4), st.lists(RULE, max_size=4).map("|".join))
VARIABLE = st.fixed_dictionaries(
    {
        "env_variable": NAME,
        "default_value": SCALAR.filter(lambda v: not isinstance(v, str) or "\0" not in v),
        "rules": RULES,
    },
    optional={
        "name": SCALAR,
        "description": SCALAR,
        "user_viewable": SCALAR,
        "user_editable": SCALAR,
        "field_type": SCALAR,
    },
)
IMAGE = st.sampled_from(["a/b:1", "ghcr.io/x/y:java_21", "~local", " debian "])
EGG: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "meta": st.fixed_dictionaries(
            {"version": st.sampled_from(["PTDL_v1", "PTDL_v2", "PLCN_v1", "PLCN_v2", "PLCN_v3"])}
        ),
        "docker_images": st.one_of(
            st.dictionaries(TEXT, IMAGE, min_size=1, max_size=3), st.lists(IMAGE, min_size=1, max_size=2), IMAGE
        ),
    },
    optional={
        "name": SCALAR,
        "author": SCALAR,
        "description": SCALAR,
        "uuid": SCALAR,
        "startup": st.one_of(TEXT, st.none()),
        "features": st.one_of(
            SCALAR, st.lists(SCALAR, max_size=2), st.dictionaries(TEXT, st.one_of(SCALAR, st.lists(TEXT)), max_size=2)
        ),
        "file_denylist": st.one_of(SCALAR, st.lists(SCALAR, max_size=2)),
        "startup_commands": st.one_of(st.none(), st.dictionaries(TEXT, TEXT, max_size=2)),
        "config": st.fixed_dictionaries(
            {},
            optional={
                "files": FILES,
                "startup": st.fixed_dictionaries({}, optional={"done": DONE}),
                "stop": SCALAR,
                "logs": SCALAR,
            },
        ),
        "scripts": st.one_of(
            st.none(),
            st.just([]),
            st.fixed_dictionaries(
                {
                    "installation": st.one_of(
                        st.none(),
                        st.just([]),
                        st.fixed_dictionaries({"script": SCALAR}, optional={"container": IMAGE, "entrypoint": SCALAR}),
                    )
                }
            ),
        ),
        "variables": st.one_of(st.none(), st.lists(VARIABLE, max_size=3)),
        "x": SCALAR,
    },
)


class AnyEggTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(EGG, st.booleans())
    def test_none_is_refused(self, egg: dict[str, Any], wrapped: bool) -> None:
        """Whatever stands where, an egg with a version and an image makes a server."""
        if wrapped:
            parts = egg.get("config", {})
            egg = {
                **egg,
                "config": {key: json.dumps(part) if isinstance(part, dict) else part for key, part in parts.items()},
            }
        everywhere(egg)
