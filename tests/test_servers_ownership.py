"""Two daemons of one node id on one Docker: each acts on its own containers and networks, and tells of the others'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stellarstack.servers.ownership import ADOPTED_KEY
from tests.household import CONTAINER, NODE, PowerCase, World, done

LABELS = {"stellarstack.node": NODE, "stellarstack.server": "srv_1", "stellarstack.role": "run"}
FOREIGN = {**LABELS, "stellarstack.installation": "2" * 32}


class OwnershipTests(PowerCase):
    def container(self, name: str = CONTAINER, labels: Mapping[str, str] = FOREIGN) -> str:
        """One that this daemon did not make, running."""
        body: dict[str, Any] = {"Image": "test/game:1", "Labels": dict(labels), "Tty": True}
        found: str = done(self.world.engine.create_container(name, body))
        done(self.world.engine.start(name))
        return found

    def ids(self) -> list[str]:
        return [one.id for one in self.world.engine.all() if one.running]

    def alerts(self, code: str = "node_id_shared") -> list[Any]:
        return self.world.store.events("node.alert", code=code)

    def unlabelled(self, world: World) -> None:
        """What stands on the engine becomes that of a version that knew no installation id."""
        for one in world.engine.all():
            one.labels.pop("stellarstack.installation")
        for network in world.engine.bridges.all():
            network.labels.pop("stellarstack.installation", None)
        world.store.values.pop(ADOPTED_KEY, None)

    def test_labelled(self) -> None:
        """Containers and networks carry the installation id."""
        self.made()
        self.assertEqual(self.world.engine.get(CONTAINER).labels["stellarstack.installation"], self.world.installation)
        ours = done(self.world.engine.networks({"stellarstack.installation": self.world.installation}))
        self.assertEqual(set(ours), {CONTAINER})

    def test_name_is_taken(self) -> None:
        """A server whose container's name another daemon holds is not started, and that container runs on."""
        foreign = self.container()
        create = self.world.create()
        self.world.run(5)
        told = self.answer(create)["startError"]
        self.assertIn("another daemon", str(told))
        self.assertIn("invalid_state", str(told))
        self.assertEqual((self.ids(), self.world.status()), ([foreign], "crashed"))
        self.assertEqual(self.outcome(self.power("start"))[0], "failed")
        kill = self.power("kill")
        self.assertEqual(self.answer(kill)["already"], True)
        self.assertEqual(self.ids(), [foreign])

    def test_taken_while_it_ran(self) -> None:
        """A container that another daemon put in the place of ours is not ours: nothing of it is believed or ended."""
        self.made()
        done(self.world.engine.remove(CONTAINER))
        foreign = self.container()
        self.world.run(1)
        self.assertEqual(self.world.status(), "crashed")
        self.world.restart()
        self.world.run(1)
        self.assertEqual((self.world.status(), self.ids()), ("crashed", [foreign]))
        self.assertEqual(len(self.alerts()), 1)
        delete = self.power("delete")
        self.world.run(1)
        self.assertEqual(self.outcome(delete)[0], "succeeded")
        self.assertEqual((self.ids(), self.world.household.all()), ([foreign], []))

    def test_told_once(self) -> None:
        """However many there are and however often the engine comes back, there is one alert; new ones are told."""
        self.container("x1", {**FOREIGN, "stellarstack.server": "x1"})
        self.container("x2", {**FOREIGN, "stellarstack.server": "x2", "stellarstack.role": "install"})
        for _ in range(3):
            self.world.engine.go_down()
            self.world.run(10)
            self.world.engine.come_back()
            self.world.run(10)
        self.assertEqual(len(self.alerts()), 1)
        self.assertIn("2 containers", str(self.alerts()[0]["message"]))
        self.assertEqual(len(self.world.engine.all()), 2)
        self.container("x3", {**FOREIGN, "stellarstack.server": "x3"})
        self.world.engine.go_down()
        self.world.run(10)
        self.world.engine.come_back()
        self.world.run(10)
        self.assertEqual(len(self.alerts()), 2)

    def test_foreign_network(self) -> None:
        """A network of another daemon is neither used nor removed."""
        labels = {"stellarstack.node": NODE, "stellarstack.server": "srv_1", "stellarstack.installation": "2" * 32}
        done(self.world.engine.create_network(CONTAINER, "10.213.0.0/28", labels))
        create = self.world.create()
        self.world.run(5)
        self.assertEqual(self.outcome(create)[0], "failed")
        self.assertIn("another daemon", str(self.world.result(create)["error"]))
        self.assertEqual(set(done(self.world.engine.networks(labels))), {CONTAINER})
        self.assertEqual(self.world.household.all(), [])

    def test_upgrade(self) -> None:
        """What an earlier version made is adopted: it runs on, is stopped, started with the label, and deleted."""
        self.made()
        self.world.kill()
        self.unlabelled(self.world)
        before = self.ids()
        for _ in range(2):
            self.world.build()
            self.world.start()
            self.world.run(1)
            self.assertEqual((self.world.status(), self.ids(), self.alerts()), ("running", before, []))
            self.world.kill()
        self.world.build()
        self.world.start()
        self.world.run(1)
        self.power("restart")
        self.world.run(2)
        self.assertEqual(self.world.status(), "running")
        self.assertEqual(self.world.engine.get(CONTAINER).labels["stellarstack.installation"], self.world.installation)
        delete = self.power("delete")
        self.world.run(2)
        self.assertEqual(self.outcome(delete), ("succeeded", None))
        self.assertEqual((self.world.engine.all(), done(self.world.engine.networks(LABELS))), ([], {}))

    def test_upgrade_with_a_forgotten_install(self) -> None:
        """K07: so is an install container that nobody waits for any more: it is removed."""
        self.made(start=False)
        self.world.kill()
        self.unlabelled(self.world)
        self.container("install-x", {**LABELS, "stellarstack.role": "install"})
        self.world.build()
        self.world.start()
        self.world.run(1)
        self.assertEqual(self.ids(), [])

    def test_adopted_once(self) -> None:
        """What comes without a label after the upgrade is not ours; without a record it is told as ever."""
        self.made(start=False)
        self.world.kill()
        foreign, stranger = self.container(labels=LABELS), {**LABELS, "stellarstack.server": "srv_2"}
        self.container("other", stranger)
        self.world.build()
        self.world.start()
        self.world.run(1)
        self.assertEqual((self.world.status(), len(self.alerts())), ("stopped", 1))
        self.assertEqual([one["serverId"] for one in self.alerts("container_without_record")], ["srv_2"])
        self.power("start")
        self.world.run(2)
        self.assertIn(foreign, self.ids())

    def test_engine_away_at_the_upgrade(self) -> None:
        """Until the engine was asked what to adopt, nothing is given up."""
        self.made()
        self.world.kill()
        self.unlabelled(self.world)
        self.world.build()
        self.world.engine.go_down()
        self.world.start()
        self.world.run(20)
        self.assertNotIn(ADOPTED_KEY, self.world.store.values)
        self.world.engine.come_back()
        self.world.run(10)
        self.assertEqual((self.world.status(), self.alerts()), ("running", []))
        self.assertEqual(self.world.store.values[ADOPTED_KEY], sorted([*self.ids(), CONTAINER]))
