"""node.drain without a target, to the letter of PROTOCOL 7."""

from __future__ import annotations

from typing import Any

from tests.fake_container import Program
from tests.household import NODE, PowerCase


class DrainTests(PowerCase):
    """A node with five servers, of which one is deaf to its stop command."""

    def setUp(self) -> None:
        super().setUp()
        deaf = self.image(Program(output="Done\n", signals={}))
        for number in range(5):
            self.world.create(f"srv_{number}", blueprint={**(deaf if number == 4 else {}), "crash": {"restart": True}})
        self.world.run(1)

    def drain(self, **more: Any) -> str:
        return self.world.send("node.drain", **more)

    def stop(self, *numbers: int) -> None:
        for number in numbers:
            self.world.send("server.stop", serverId=f"srv_{number}", timeout=5)
        self.world.run(15)

    def state(self) -> str:
        return self.world.lifecycle.state.value

    def answered(self, command: str) -> bool:
        return command in self.world.store.results

    def steps(self) -> list[object]:
        return [alert["remaining"] for alert in self.world.store.events("node.alert", code="drain_progress")]

    def test_until_none_is_left(self) -> None:
        """It waits until none is other than stopped or crashed; then OFFLINE, and the result."""
        drain = self.drain()
        self.stop(0, 1, 2)
        self.world.engine.crash(f"{NODE}.srv_3", 1)
        self.world.run(120)
        self.assertEqual((self.state(), self.answered(drain)), ("DRAINING", False))
        self.assertEqual(self.world.status("srv_3"), "crashed")  # and nothing brought it back
        self.stop(4)
        self.assertEqual(self.answer(drain), {"total": 5, "migrated": 0, "remaining": 0})
        self.assertEqual(self.state(), "OFFLINE")
        self.assertEqual((self.steps()[0], self.steps()[-1]), (5, 0))

    def test_refuses(self) -> None:
        """DRAINING refuses create, start, restart and reinstall, and takes stop and delete."""
        self.stop(0)
        self.drain()
        refused = [self.world.create("srv_9")]
        refused += [self.world.send(f"server.{kind}", serverId="srv_0") for kind in ("start", "restart", "reinstall")]
        taken = [self.world.send("server.stop", serverId="srv_1"), self.world.send("server.delete", serverId="srv_2")]
        self.world.run(5)
        self.assertEqual({self.outcome(one) for one in refused}, {("rejected", "draining")})
        self.assertEqual({self.outcome(one) for one in taken}, {("succeeded", None)})

    def test_over_a_restart(self) -> None:
        """It outlives a kill -9 of the daemon: the same command is answered when the node is empty."""
        drain = self.drain()
        self.stop(0, 1)
        self.world.restart()
        self.assertEqual(self.state(), "DRAINING")
        self.stop(2, 3, 4)
        self.assertEqual(self.outcome(drain), ("succeeded", None))
        self.assertEqual(self.state(), "OFFLINE")

    def test_engine_away_after_a_restart(self) -> None:
        """After a restart nothing is taken for empty before the engine has said so."""
        self.stop(0, 1, 2, 3, 4)
        self.world.kill()
        self.world.engine.go_down()
        self.world.store.values["node.draining"] = True
        self.world.build()
        self.world.start()
        self.world.run(5)
        self.assertEqual(self.state(), "DRAINING")
        self.world.engine.come_back()
        self.world.run(10)
        self.assertEqual(self.state(), "OFFLINE")

    def test_cancelled(self) -> None:
        """`cancel` ends it, `cancelled`, and the node is ONLINE again; what crashes then comes back again."""
        drain = self.drain()
        self.stop(0, 1)
        cancel = self.drain(cancel=True)
        self.world.run(1)
        self.assertEqual(self.outcome(drain), ("cancelled", "cancelled"))
        self.assertEqual(self.answer(cancel), {"total": 5, "migrated": 0, "remaining": 3})
        self.assertEqual(self.state(), "ONLINE")
        self.world.restart()
        self.assertEqual(self.state(), "ONLINE")
        self.world.engine.crash(f"{NODE}.srv_2", 1)
        self.world.run(5)
        self.assertEqual(self.world.status("srv_2"), "running")

    def test_begun_in_a_crash_wait(self) -> None:
        """One that waits to be restarted when the drain begins is at rest from then on, as if it had crashed in it."""
        self.world.engine.crash(f"{NODE}.srv_0", 1)
        self.world.run(0.5)
        self.drain()
        self.world.run(5)
        self.drain(cancel=True)
        self.world.run(5)
        self.assertEqual(self.world.status("srv_0"), "crashed")
        self.world.restart()
        self.world.run(120)
        self.assertEqual(self.world.status("srv_0"), "crashed")
        self.assertEqual(self.world.status("srv_1"), "running")

    def test_over_before_the_crash_wait(self) -> None:
        """A drain that is taken back before the wait is over costs no server its restart."""
        self.world.engine.crash(f"{NODE}.srv_0", 1)
        self.drain()
        self.drain(cancel=True)
        self.world.run(5)
        self.assertEqual(self.world.status("srv_0"), "running")

    def test_cancel_of_an_emptied_one(self) -> None:
        """A node that was emptied can be put back into service."""
        self.drain()
        self.stop(0, 1, 2, 3, 4)
        self.assertEqual(self.state(), "OFFLINE")
        self.drain(cancel=True)
        self.world.run(1)
        self.assertEqual(self.state(), "ONLINE")

    def test_cancel_of_nothing(self) -> None:
        """Where no drain is under way, `cancel` is refused."""
        cancel = self.drain(cancel=True)
        self.world.run(1)
        self.assertEqual(self.outcome(cancel), ("rejected", "invalid_state"))

    def test_deadline(self) -> None:
        """At the deadline it is `failed`, `timeout`; the state stays, and the node is OFFLINE when it is empty."""
        drain = self.drain(deadline=self.world.clock.seconds() + 20)
        self.world.run(19)
        self.assertFalse(self.answered(drain))
        self.world.run(2)
        self.assertEqual(self.outcome(drain), ("failed", "timeout"))
        self.assertEqual(self.state(), "DRAINING")
        self.stop(0, 1, 2, 3, 4)
        self.assertEqual(self.state(), "OFFLINE")

    def test_again(self) -> None:
        """A second drain waits with the first; of a node that is empty already it succeeds at once."""
        drains = [self.drain(), self.drain()]
        self.stop(0, 1, 2, 3, 4)
        drains.append(self.drain())
        self.world.run(1)
        self.assertEqual({self.outcome(one) for one in drains}, {("succeeded", None)})

    def test_deadline_in_milliseconds(self) -> None:
        """A deadline over 1e11 is milliseconds."""
        drain = self.drain(deadline=(self.world.clock.seconds() + 5) * 1000)
        self.world.run(6)
        self.assertEqual(self.outcome(drain), ("failed", "timeout"))

    def test_target(self) -> None:
        """A target is refused, naming its key, for as long as servers cannot be moved; nothing is drained."""
        for key in ("targetNodeId", "targetUrl"):
            drain = self.drain(**{key: "node_other"})
            self.assertEqual(self.outcome(drain), ("rejected", "invalid_payload"))
        self.assertEqual(self.state(), "ONLINE")
        self.assertEqual(self.outcome(self.drain(deadline="soon")), ("rejected", "invalid_payload"))
