"""Networks that servers share (`config.network`): made with the first, removed with the last, one name one bridge."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from stellarstack.core.spec import parse_server_config
from stellarstack.core.subnets import SHARED_MOST
from stellarstack.errors import DockerUnavailable, InvalidPayload
from tests.fake_container import Program
from tests.household import NODE, PowerCase, done

OWNER = "owner_42"
SHARED = f"{NODE}-{OWNER}"
LABELS = {
    "stellarstack.installation": "1" * 32,
    "stellarstack.node": NODE,
    "stellarstack.role": "shared",
    "stellarstack.network": OWNER,
}
GAME = Program(output="Done\n", replies={"stop": 0})


class SharedNetworkTests(PowerCase):
    def many(self, *ids: str, network: str = OWNER, **more: Any) -> list[str]:
        """Orders servers in one breath."""
        return [self.world.create(one, config={"network": network}, **more) for one in ids]

    def networks(self) -> dict[str, Any]:
        found = done(self.world.engine.networks({"stellarstack.node": NODE}))
        return {name: IPv4Network(subnets[0]) for name, subnets in found.items()}

    def delete(self, *ids: str) -> None:
        sent = [self.world.send("server.delete", serverId=one) for one in ids]
        self.world.run(1)
        self.assertEqual([self.outcome(one) for one in sent], [("succeeded", None)] * len(ids))

    def body(self, server_id: str) -> Mapping[str, Any]:
        name = f"{NODE}.{server_id}"
        return next(one.body for one in self.world.engine.all() if one.name == name)

    def test_one_bridge(self) -> None:
        """Servers of one name, made at once, stand in one labelled /26 under their ids; others in their own /28."""
        sent = [*self.many("srv_1", "srv_2", "srv_3"), self.world.create("alone"), *self.many("b", network="other")]
        self.world.run(1)
        self.assertEqual({self.outcome(one) for one in sent}, {("succeeded", None)})
        networks = self.networks()
        self.assertEqual(set(networks), {SHARED, f"{NODE}-other", f"{NODE}.alone"})
        self.assertEqual([networks[one].prefixlen for one in (SHARED, f"{NODE}.alone")], [26, 28])
        self.assertEqual(set(done(self.world.engine.networks(LABELS))), {SHARED})
        for one in ("srv_1", "srv_2", "srv_3"):
            self.assertEqual(self.body(one)["HostConfig"]["NetworkMode"], SHARED)
            self.assertEqual(self.body(one)["NetworkingConfig"], {"EndpointsConfig": {SHARED: {"Aliases": [one]}}})
        self.assertNotIn("NetworkingConfig", self.body("alone"))
        records = [self.world.household.get(one).record for one in ("srv_1", "srv_2", "srv_3")]
        self.assertEqual({(one.network, one.subnet) for one in records}, {(SHARED, str(networks[SHARED]))})
        self.assertEqual(self.world.household.get("srv_1").row()["network"], OWNER)
        self.assertEqual(len(self.world.subnets_given()), 3)

    def test_somebody_else_makes_networks(self) -> None:
        """Subnets that others are just making, which nobody lists yet, are gone around; when all are, it is told."""
        bridges = self.world.engine.bridges
        bridges.reserved = ["10.213.0.0/24"]
        first, last = self.world.create("srv_1"), self.world.create("srv_2")
        self.world.run(1)
        self.assertEqual([self.outcome(one) for one in (first, last)], [("succeeded", None)] * 2)
        bridges.reserved = ["10.213.0.0/16"]
        refused = self.world.create("srv_3")
        self.world.run(1)
        self.assertEqual(self.outcome(refused), ("failed", "docker_unavailable"))
        self.assertEqual(len(self.world.subnets_given()), 2)

    def test_last_one_out(self) -> None:
        """The network stays while one of its servers is here, and goes with the last; its subnet is free again."""
        self.many("srv_1", "srv_2")
        self.world.run(1)
        self.delete("srv_1")
        self.assertEqual(set(self.networks()), {SHARED})
        self.delete("srv_2")
        self.assertEqual((self.networks(), self.world.subnets_given()), ({}, []))

    def test_all_out_at_once(self) -> None:
        """Deletes of all in one breath leave nothing behind."""
        self.many("srv_1", "srv_2", "srv_3")
        self.world.run(1)
        self.delete("srv_1", "srv_2", "srv_3")
        self.assertEqual((self.networks(), self.world.subnets_given()), ({}, []))

    def test_one_comes_as_the_last_goes(self) -> None:
        """A create beside the last delete has its network, whichever of the two is quicker with it."""
        for number, slow in enumerate(("remove_network", "create_network", "networks", "remove", "")):
            old, new = f"old_{number}", f"new_{number}"
            self.many(old)
            self.world.run(1)
            self.world.engine.faults.latency = lambda name, slow=slow: 1.0 if name == slow else 0.01
            gone, come = self.world.send("server.delete", serverId=old), self.many(new)[0]
            self.world.run(20)
            self.assertEqual((self.outcome(gone)[0], self.outcome(come)[0]), ("succeeded", "succeeded"), slow)
            self.world.engine.faults.latency = None
            self.assertEqual((self.world.status(new), set(self.networks())), ("running", {SHARED}), slow)
            self.delete(new)
            self.assertEqual(self.networks(), {}, slow)

    def test_failed_create(self) -> None:
        """A server that was not to be takes its network away again, unless another stands in it."""
        for fellow in (False, True):
            if fellow:
                self.many("fellow")
                self.world.run(1)
            failed = self.many("srv_1", blueprint={"docker": {"image": "test/none:1"}})[0]
            self.world.run(1)
            self.assertEqual(self.outcome(failed)[0], "failed")
            self.assertEqual(set(self.networks()), {SHARED} if fellow else set())

    def test_over_a_restart(self) -> None:
        """A restarted daemon knows who stands where: the next server joins, the last one's network goes."""
        self.many("srv_1")
        self.world.run(1)
        self.world.restart()
        self.world.run(1)
        self.many("srv_2")
        self.world.run(1)
        subnets = {self.world.household.get(one).record.subnet for one in ("srv_1", "srv_2")}
        self.assertEqual(len(subnets), 1)
        self.delete("srv_2", "srv_1")
        self.assertEqual(self.networks(), {})

    def test_left_by_a_dead_daemon(self) -> None:
        """A shared network that no server needs is removed at the daemon's start; others and foreign ones stay."""
        self.many("srv_1")
        self.world.run(1)
        done(self.world.engine.create_network("foreign", "10.1.0.0/28", {"stellarstack.role": "shared"}))
        left = {**LABELS, "stellarstack.network": "left"}
        done(self.world.engine.create_network(f"{NODE}-left", "10.2.0.0/28", left))
        self.world.restart()
        self.world.run(1)
        self.assertEqual(set(self.networks()), {SHARED})
        self.assertIn("foreign", done(self.world.engine.networks({})))

    def test_moved_by_an_update(self) -> None:
        """server.update moves a running server with its next start, and its old network goes when nobody needs it."""
        self.made(GAME)
        for network, old, new in ((OWNER, f"{NODE}.srv_1", SHARED), ("two", SHARED, f"{NODE}-two"),
                                  ("", f"{NODE}-two", f"{NODE}.srv_1")):  # fmt: skip
            update = self.world.send("server.update", serverId="srv_1", config={"network": network})
            self.world.run(1)
            self.assertEqual(self.answer(update), {"applied": [], "pending": ["network"]})
            self.assertEqual(set(self.networks()), {old})
            self.power("restart")
            self.world.run(2)
            self.assertEqual((self.world.status(), set(self.networks())), ("running", {new}))
            self.assertEqual(self.world.subnets_given(), [str(self.networks()[new])])

    def test_moved_while_stopped(self) -> None:
        """Of a server that does not run the old network goes at once; the new one comes with its start."""
        self.many("srv_1", start=False)
        self.world.run(1)
        update = self.world.send("server.update", serverId="srv_1", config={"network": ""})
        self.world.run(1)
        self.assertEqual(self.answer(update), {"applied": ["network"], "pending": []})
        self.assertEqual(self.networks(), {})
        self.power("start")
        self.world.run(1)
        self.assertEqual(self.networks()[f"{NODE}.srv_1"].prefixlen, 28)

    def test_deleted_before_it_moved(self) -> None:
        """A server that is deleted between update and start leaves neither network behind."""
        self.made(GAME)
        self.world.send("server.update", serverId="srv_1", config={"network": OWNER})
        self.world.run(1)
        self.delete("srv_1")
        self.assertEqual((self.networks(), self.world.subnets_given()), ({}, []))

    def test_delete_that_failed(self) -> None:
        """A delete that could not remove the network is told; the server can be started again, and deleted."""
        self.many("srv_1")
        self.world.run(1)
        self.world.engine.faults.fail("remove_network", DockerUnavailable("away (test)"))
        gone = self.world.send("server.delete", serverId="srv_1")
        self.world.run(1)
        self.assertEqual(self.outcome(gone), ("failed", "docker_unavailable"))
        self.many("srv_2")
        self.assertEqual(self.outcome(self.start_again()), ("succeeded", None))
        self.delete("srv_2")
        self.assertEqual(set(self.networks()), {SHARED})
        self.delete("srv_1")
        self.assertEqual(self.networks(), {})

    def start_again(self) -> str:
        start = self.power("start")
        self.world.run(1)
        return start

    def test_names(self) -> None:
        """A server's name is one of its names there where it is a host name that is no other's id."""
        names = {"a": "Lobby", "b": "a", "c": "two words", "d": "x.example", "e": "e"}
        for one, name in names.items():
            self.world.create(one, name=name, config={"network": OWNER})
        self.world.run(1)
        found = {one: self.world.around.bridges.aliases(self.world.household.get(one)) for one in names}
        self.assertEqual(found, {"a": ("a", "lobby"), "b": ("b",), "c": ("c",), "d": ("d",), "e": ("e",)})

    def test_without_ipv4(self) -> None:
        """A network of ours that somebody made anew without IPv4 is told by its name; one that has IPv6 too will do."""
        for subnets in ((), ("fd00:1::/64",)):
            self.stands(subnets)
            command = self.world.create(config={"network": OWNER})
            self.world.run(1)
            self.assertEqual(self.outcome(command), ("failed", "invalid_state"), subnets)
            self.assertIn(SHARED, str(self.world.result(command)["error"]))
            done(self.world.engine.remove_network(SHARED))
        self.stands(("fd00:1::/64", "10.213.9.0/26"))
        self.made(config={"network": OWNER})
        self.assertEqual(self.world.household.get("srv_1").record.subnet, "10.213.9.0/26")

    def stands(self, subnets: tuple[str, ...]) -> None:
        done(self.world.engine.create_network(SHARED, "10.213.9.0/26", LABELS))
        next(one for one in self.world.engine.bridges.all() if one.name == SHARED).subnets = subnets

    def test_full(self) -> None:
        """The server that has no address left is refused before anything is done."""
        fellows = [f"s{number}" for number in range(SHARED_MOST)]
        sent = [*self.many(*fellows, start=False), *self.many("more", start=False)]
        self.world.run(10)
        found = [self.outcome(one) for one in sent]
        self.assertEqual(found, [("succeeded", None)] * SHARED_MOST + [("rejected", "insufficient_resources")])

    def test_grammar(self) -> None:
        """Anything but a plain name is refused, naming the key."""
        for bad in ("a b", "../x", "a.b", "-a", "_a", "a" * 64, "ä", "a\n", True, ["a"], "host/", "container:x"):
            with self.subTest(bad=bad):
                error = self.assertRaises(InvalidPayload, parse_server_config, {"config": {"network": bad}})
                self.assertIn("network", str(error))
        for good in ("owner_42", "A-b", "7", "a" * 63, ""):
            self.assertEqual(parse_server_config({"config": {"network": good}}).network, good)
        self.assertIsNone(parse_server_config({"config": {"network": None}}).network)
