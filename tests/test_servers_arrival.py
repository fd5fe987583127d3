"""How servers come, when others come at the same time, and when their coming is broken off."""

from __future__ import annotations

from stellarstack.core.messages import Json
from stellarstack.errors import DockerUnavailable, StoreFailed
from tests.fake_container import Program
from tests.household import NODE, PowerCase, done

LOST = DockerUnavailable("Docker does not answer (test)")


class CreateTests(PowerCase):
    def test_ports_raced(self) -> None:
        """P03: of fifty creates at once with the same port exactly one succeeds."""
        self.world.engine.faults.latency = lambda _: 0.2
        commands = [self.world.create(f"srv_{number}", config={"ports": [20110]}) for number in range(50)]
        self.world.run(60)
        outcomes = [self.outcome(command) for command in commands]
        self.assertEqual(outcomes.count(("succeeded", None)), 1)
        self.assertEqual(outcomes.count(("rejected", "port_in_use")), 49)

    def test_failed_one_makes_room(self) -> None:
        """A failed create that could not clean up, the engine being away, does not block the next one."""
        install = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 20}
        self.world.engine.add_image("test/installer:1", Program())
        first = self.world.create(blueprint={"install": install})
        self.world.run(1)
        self.world.engine.faults.fail("remove", LOST, times=2)
        self.world.run(25)
        self.assertEqual(self.outcome(first), ("failed", "timeout"))
        self.assertEqual(self.told()[-1], "stopped")
        second = self.world.create()
        self.world.run(2)
        self.assertEqual(self.outcome(second), ("succeeded", None))

    def test_files_that_were_there(self) -> None:
        """A create over files that an earlier delete kept does not remove them when it fails."""
        kept = self.world.root / "servers" / "srv_1" / "world.dat"
        kept.parent.mkdir(parents=True)
        kept.write_text("a castle")
        self.world.create(blueprint={"docker": {"image": "test/nothing:1"}})
        self.world.run(1)
        self.assertIsNone(self.world.status())
        self.assertEqual(kept.read_text(), "a castle")

    def test_overtaken_on_arrival(self) -> None:
        """A create that a kill overtakes before its install leaves nothing behind."""
        self.world.engine.faults.latency = lambda name: 1.0 if name == "networks" else 0.0
        create = self.world.create()
        self.world.run(0.5)
        self.power("kill")
        self.world.run(10)
        self.assertEqual(self.outcome(create), ("cancelled", "cancelled"))
        self.assertEqual((self.world.store.documents, self.world.subnets_given()), ({}, []))

    def test_record_that_cannot_be_written(self) -> None:
        """A create whose record cannot be kept gives its subnet back."""
        self.world.commit_delay = lambda name: 1.0 if name == "put_server" else 0.0
        self.world.restart()
        create = self.world.create()
        self.world.run(0.5)
        self.world.store.broken = True
        self.world.run(2)
        self.world.store.broken = False
        self.world.run(10)
        self.assertEqual(self.outcome(create), ("failed", "internal"))
        self.assertEqual((self.world.store.documents, self.world.subnets_given()), ({}, []))

    def test_console_that_cannot_be_opened(self) -> None:
        """A create that fails after its record was written takes it out again: no later start knows the server."""
        self.world.consoles.broken = StoreFailed("no space for the scrollback (test)")
        create = self.world.create()
        self.world.run(1)
        self.assertEqual(self.outcome(create), ("failed", "internal"))
        self.assertEqual((self.world.store.documents, self.world.subnets_given()), ({}, []))
        self.world.restart()
        self.world.run(1)
        self.assertIsNone(self.world.status())
        self.made()

    def test_record_that_cannot_be_taken_back(self) -> None:
        """Where the record cannot be taken out either, the create's own error is told, and the subnet is free."""
        self.world.consoles.broken = StoreFailed("no space for the scrollback (test)")
        self.world.commit_delay = lambda name: 1.0 if name == "remove_server" else 0.0
        self.world.restart()
        self.world.consoles.broken = StoreFailed("no space for the scrollback (test)")
        create = self.world.create()
        self.world.run(0.5)
        self.world.store.broken = True
        self.world.run(2)
        self.world.store.broken = False
        self.world.run(10)
        self.assertEqual(self.outcome(create), ("failed", "internal"))
        self.assertEqual(self.world.subnets_given(), [])

    def test_half_an_install(self) -> None:
        """K07: the daemon died in an install: it is done anew in an empty folder, with one result."""
        self.world.engine.add_image("test/installer:1", Program(output="fetching\n", exit_after=5.0))
        install = {"image": "test/installer:1", "entrypoint": "sh", "script": "x", "timeout": 60}
        create = self.world.create(blueprint={"install": install})
        self.world.run(2)
        half = self.world.root / "servers" / "srv_1" / "half"
        half.write_text("")
        self.world.restart()
        self.world.run(10)
        self.assertEqual(self.answer(create)["status"], "running")
        self.assertFalse(half.exists())

    def test_forgotten_install(self) -> None:
        """K07: an install container that nobody waits for any more is removed."""
        self.made(start=False)
        self.world.engine.add_image("test/installer:1", Program())
        labels: dict[str, Json] = {
            "stellarstack.node": NODE,
            "stellarstack.server": "srv_1",
            "stellarstack.role": "install",
            "stellarstack.installation": self.world.installation,
        }
        done(self.world.engine.create_container("install-x", {"Image": "test/installer:1", "Labels": labels}))
        self.world.restart()
        self.world.run(1)
        self.assertEqual([one.name for one in self.world.engine.all()], [])
