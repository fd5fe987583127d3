"""Another config for a server that is there, and what of it a running container can take."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.change import change
from stellarstack.core.container_spec import UpdatePlan, run_body, update_body
from stellarstack.core.spec import ServerSpec
from stellarstack.errors import BlueprintInvalid, InvalidPayload
from tests.examples import examples
from tests.test_container_spec import PLACEMENT, egg_spec, spec

MB = 1 << 20
VARIABLES = [{"key": "MOTD", "default": "hi", "rules": "required|max:10"}, {"key": "Level", "default": "one"}]


def changed(before: ServerSpec, allow_unlimited: bool = True, **config: Any) -> ServerSpec:
    return change(before, {"config": config}, allow_unlimited=allow_unlimited)


class ChangeTests(SynchronousTestCase):
    """change"""

    def test_nothing(self) -> None:
        """No key, a null, and a value that is there already change nothing, of native servers and of eggs."""
        native = spec({"env": {"OTHER": "x", "motd": "ho"}, "ports": [25565]}, environment=VARIABLES)
        for before in (native, egg_spec(), spec({"memory": 0, "cpu": 0, "pids": 0, "swap": -1})):
            self.assertEqual(changed(before, allow_unlimited=False), before)
            self.assertEqual(changed(before, memory=None, ports=None, env=None, blkioWeight=None), before)
        self.assertEqual(changed(native, memory=512, ports=[25565], env={"OTHER": "x"}), native)
        self.assertEqual(change(native, {}, allow_unlimited=False), native)

    def test_limits(self) -> None:
        """Each limit alone; what the game is told of its memory follows."""
        before = spec(startup={"command": "./game -Xmx{{server.memory}}M"})
        after = changed(before, memory=1024)
        self.assertEqual((after.memory_mb, after.cpu, after.pids), (1024, 1.5, 100))
        self.assertEqual((after.env["SERVER_MEMORY"], after.command), ("1024", "./game -Xmx1024M"))
        rows: tuple[tuple[str, str, Any], ...] = (("swap", "swap_mb", 64), ("cpu", "cpu", 0.5), ("disk", "disk_mb", 7),
                                 ("pids", "pids", 9), ("blkioWeight", "blkio_weight", 300))  # fmt: skip
        for key, name, value in rows:
            after = changed(before, **{key: value})
            self.assertEqual(getattr(after, name), value)
            self.assertEqual(changed(after, **{key: getattr(before, name)}).cpu, before.cpu)

    def test_variables(self) -> None:
        """Only the named variables change, however they are spelt; null is the default again, or nothing."""
        before = spec({"env": {"MOTD": "ho", "OTHER": "x"}}, environment=VARIABLES)
        after = changed(before, env={"motd": "new", "LEVEL": "two", "MORE": 4})
        self.assertEqual(after.variables, {"MOTD": "new", "Level": "two"})
        self.assertEqual((after.env["MOTD"], after.env["OTHER"], after.env["MORE"]), ("new", "x", "4"))
        back = changed(after, env={"motd": None, "OTHER": None, "MORE": None, "NEVER": None})
        self.assertEqual(back.variables, {"MOTD": "hi", "Level": "two"})
        self.assertEqual([key for key in ("OTHER", "MORE") if key in back.env], [])
        both = changed(before, env={"MOTD": "exact", "motd": None, "Motd": "other"})
        self.assertEqual(both.variables["MOTD"], "exact")

    def test_a_home_of_its_own(self) -> None:
        """A HOME that was ordered stays; one that the daemon set follows the daemon."""
        self.assertEqual(changed(spec({"env": {"HOME": "/x"}}), pids=9).env["HOME"], "/x")
        self.assertEqual(changed(spec(), pids=9).env["HOME"], "/data")

    def test_ports(self) -> None:
        """Ports are replaced as a whole, and the game is told of the new primary one."""
        before = egg_spec()
        after = changed(before, ports=[{"host": 30000, "container": 30001, "protocol": "udp"}, 30002])
        self.assertEqual([port.host for port in after.ports], [30000, 30002])
        self.assertEqual(after.env["SERVER_PORT"], "30001")
        self.assertEqual(changed(before, ports=[]).ports, ())

    def test_refused(self) -> None:
        """What a create refuses, an update refuses, naming the key, the variable, the rule."""
        before = spec(environment=VARIABLES)
        rows: list[tuple[dict[str, Any], str]] = [
            ({"memory": 1}, "config.memory"), ({"memory": 0}, "config.memory: 0"), ({"swap": -1}, "config.swap: -1"),
            ({"cpu": "x"}, "config.cpu"), ({"ports": [1, 1]}, "ports"), ({"blkioWeight": 5}, "blkioWeight"),
            ({"env": {"MOTD": "much too long"}}, "MOTD: breaks the rule max:10"), ({"env": {"MOTD": ""}}, "required"),
            ({"env": {"a b": "x"}}, "'a b'"), ({"env": {"X": []}}, "env.X"), ({"env": {"X": "a\nb"}}, "one line"),
            ({"env": 4}, "config.env"),
        ]  # fmt: skip
        for config, words in rows:
            with self.assertRaises(InvalidPayload) as refused:
                changed(before, allow_unlimited=False, **config)
            self.assertIn(words, str(refused.exception))
        with self.assertRaises(InvalidPayload):
            change(before, {"config": 4}, allow_unlimited=True)

    def test_a_key_that_the_startup_needs(self) -> None:
        """A passed-on key that the startup command names cannot be taken away."""
        before = spec({"env": {"EXTRA": "x"}}, startup={"command": "./game {{EXTRA}}"})
        with self.assertRaises(BlueprintInvalid):
            changed(before, env={"EXTRA": None})

    @examples(35)
    @given(
        st.fixed_dictionaries(
            {},
            optional={
                "memory": st.integers(16, 4096), "swap": st.integers(-1, 100), "cpu": st.sampled_from([0, 0.5, 2]),
                "disk": st.integers(0, 100), "pids": st.integers(0, 50), "blkioWeight": st.integers(10, 1000),
                "ports": st.lists(st.integers(1, 9), max_size=3, unique=True),
                "env": st.dictionaries(st.sampled_from(["MOTD", "motd", "A", "HOME"]), st.sampled_from(["1", "2"])),
            },
        )
    )  # fmt: skip
    def test_as_if_created_so(self, config: dict[str, Any]) -> None:
        """An update of a server made with defaults comes to what a create with that config makes; twice is once."""
        after = changed(spec(environment=VARIABLES), **config)
        self.assertEqual(after, spec(config, environment=VARIABLES))
        self.assertEqual(changed(after, **config), after)


class UpdateBodyTests(SynchronousTestCase):
    """update_body"""

    def plan(self, before: ServerSpec, **config: Any) -> UpdatePlan:
        return update_body(before, changed(before, **config), PLACEMENT)

    def test_live(self) -> None:
        """What the engine changes on a running container, and the body that says so."""
        rows: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
            ({}, {}, ()),
            ({"memory": 256}, {"Memory": 256 * MB, "MemorySwap": 256 * MB}, ("memory",)),
            ({"swap": 64}, {"Memory": 512 * MB, "MemorySwap": 576 * MB}, ("swap",)),
            ({"memory": 1024, "swap": 1}, {"Memory": 1024 * MB, "MemorySwap": 1025 * MB}, ("memory", "swap")),
            ({"cpu": 0.25}, {"NanoCpus": 250_000_000}, ("cpu",)),
            ({"pids": 5}, {"PidsLimit": 5}, ("pids",)),
            ({"pids": 0}, {"PidsLimit": -1}, ("pids",)),
            ({"blkioWeight": 300}, {"BlkioWeight": 300}, ("blkioWeight",)),
        ]
        for config, live, at_once in rows:
            self.assertEqual(self.plan(spec(), **config), UpdatePlan(live, at_once, ()))

    def test_waits(self) -> None:
        """A limit that is lifted, ports, variables and disk wait for a new container."""
        rows: list[tuple[dict[str, Any], tuple[str, ...]]] = [
            ({"memory": 0}, ("memory",)), ({"memory": 0, "swap": 5}, ("memory", "swap")), ({"cpu": 0}, ("cpu",)),
            ({"swap": -1}, ("swap",)), ({"disk": 4}, ("disk",)), ({"ports": [1]}, ("ports",)),
            ({"env": {"A": "b"}}, ("env",)),
            ({"disk": 4, "ports": [2], "env": {"A": "b"}}, ("disk", "ports", "env")),
        ]  # fmt: skip
        for config, waits in rows:
            self.assertEqual(self.plan(spec(), **config), UpdatePlan({}, (), waits))

    def test_mixed(self) -> None:
        """Each key is told once, on its own side."""
        found = self.plan(spec(), memory=256, cpu=0, ports=[1])
        self.assertEqual((found.at_once, found.waits), (("memory",), ("cpu", "ports")))

    def test_endless_swap(self) -> None:
        """Memory beside endless swap changes at once; swap that becomes endless waits, and the memory does not."""
        endless = self.plan(spec({"swap": -1}), memory=256)
        self.assertEqual(endless, UpdatePlan({"Memory": 256 * MB, "MemorySwap": -1}, ("memory",), ()))
        becomes = self.plan(spec({"swap": 8}), memory=256, swap=-1)
        self.assertEqual(becomes, UpdatePlan({"Memory": 256 * MB, "MemorySwap": 264 * MB}, ("memory",), ("swap",)))
        ends = self.plan(spec({"swap": -1}), swap=8)
        self.assertEqual(ends, UpdatePlan({"Memory": 512 * MB, "MemorySwap": 520 * MB}, ("swap",), ()))

    def test_swap_without_a_limit_of_memory(self) -> None:
        """Swap beside unlimited memory means nothing to the engine, so nothing is asked of it."""
        self.assertEqual(self.plan(spec({"memory": 0}), swap=5), UpdatePlan({}, ("swap",), ()))

    def test_a_new_ip_is_no_change_of_variables(self) -> None:
        """What follows from ports and memory is not told as a change of `env`."""
        self.assertEqual(self.plan(egg_spec(), memory=1024, ports=[7]).waits, ("ports",))

    def test_the_next_container_agrees(self) -> None:
        """What is changed live is what a container made anew would have."""
        config: dict[str, Any] = {"memory": 256, "swap": 3, "cpu": 0.5, "pids": 7, "blkioWeight": 20}
        before = spec()
        host: Any = run_body(changed(before, **config), PLACEMENT)["HostConfig"]
        live = self.plan(before, **config).live
        self.assertEqual({name: host[name] for name in live}, dict(live))
        self.assertEqual(len(live), 5)
