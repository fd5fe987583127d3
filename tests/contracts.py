"""What every implementation of a seam must keep: the same tests run on the fake and on the real thing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from twisted.trial.unittest import TestCase

from stellarstack.core.messages import Json
from stellarstack.core.records import PtySize
from stellarstack.errors import (
    BlueprintInvalid,
    ContainerGone,
    EngineConflict,
    EngineRefused,
    ImageNotFound,
    ImagePullFailed,
    PortInUse,
)
from stellarstack.interfaces import Engine, EngineEvent
from tests.engine_ears import COUNT, DEAF, OBEY, TALK, Followed, Recorder, deferred

if TYPE_CHECKING:
    _Base = TestCase
else:
    _Base = object


class EngineContract(_Base):
    """The promises of `interfaces.Engine`. A subclass sets up `engine` and `image`, and says how time passes."""

    timeout = 60
    engine: Engine
    image: str
    label: str  # the value of `stellarstack.node` on everything that these tests make
    subnets: tuple[str, str]  # two free ones that do not overlap
    port: int  # a free one

    def name(self, suffix: str) -> str:
        """A name for a container or network that nobody else uses and that is removed after the test."""
        raise NotImplementedError

    def pass_time(self) -> None:
        """Lets what is due happen."""

    async def spare_image(self) -> str:
        """A name of an image that no container has."""
        raise NotImplementedError

    async def make(self, suffix: str, script: str, **more: Json) -> str:
        """A container of its own, not started, with a terminal."""
        body: dict[str, Json] = {
            "Image": self.image,
            "Tty": True,
            "OpenStdin": True,
            "StdinOnce": False,
            "AttachStdin": True,
            "Cmd": ["/bin/sh", "-c", script],
            "Labels": {"stellarstack.node": self.label, "stellarstack.server": suffix},
        }
        host: dict[str, Json] = {"LogConfig": {"Type": "local"}, "NetworkMode": "none"}
        given: Any = more.pop("HostConfig", {})
        return await self.engine.create_container(self.name(suffix), {**body, **more, "HostConfig": {**host, **given}})

    async def run_until(self, container: str, printed: bytes = b"ready") -> Recorder:
        """Starts it and waits until it has printed that."""
        sink = Recorder()
        await self.engine.attach(container, sink)
        await self.engine.start(container)
        await sink.has(printed)
        return sink

    async def refused(self, kind: type[Exception], work: Awaitable[object]) -> str:
        """The text of the error that `work` must end with."""
        try:
            await work
        except kind as error:
            return str(error)
        raise self.failureException(f"no {kind.__name__}")

    # ------------------------------------------------------------------ engine and images

    async def test_version(self) -> None:
        """The version tells an API that we speak and which cgroups the host has."""
        version = await self.engine.version()
        self.assertGreaterEqual(version.api, (1, 40))
        self.assertIn(version.cgroup, (1, 2))
        self.assertTrue(version.root.startswith("/"))

    async def test_image_ids(self) -> None:
        """An image that is here has an id, the same by any spelling of its name; another has none."""
        found = await self.engine.image_id(self.image)
        self.assertRegex(found, "^sha256:[0-9a-f]{64}$")
        self.assertEqual(await self.engine.image_id(self.image.removesuffix(":latest")), found)
        self.assertEqual(await self.engine.image_id("stellarstack-test/none:9"), "")

    async def test_image_in_use_stays(self) -> None:
        """D04: an image that a container has, running or not, is never removed; one that is gone is no error."""
        await self.make("c", DEAF)
        self.assertFalse(await self.engine.remove_image(self.image))
        self.assertTrue(await self.engine.has_image(self.image))
        self.assertTrue(await self.engine.remove_image("stellarstack-test/none:9"))
        await self.refused(BlueprintInvalid, self.engine.remove_image("../x"))

    async def test_image_removed(self) -> None:
        """An image that nobody uses goes, and other names of its content do not."""
        spare = await self.spare_image()
        self.assertTrue(await self.engine.has_image(spare))
        self.assertTrue(await self.engine.remove_image(spare))
        self.assertFalse(await self.engine.has_image(spare))
        self.assertTrue(await self.engine.has_image(self.image))

    async def test_images_known_and_unknown(self) -> None:
        """An image that is here is found, with and without its tag; another is not."""
        self.assertTrue(await self.engine.has_image(self.image))
        self.assertTrue(await self.engine.has_image(self.image.removesuffix(":latest")))
        self.assertFalse(await self.engine.has_image("stellarstack-test/none:9"))

    async def test_image_names_are_read_strictly(self) -> None:
        """D04: what is no image name never reaches the engine."""
        for bad in ("--privileged", "../x", "a;rm", "Upper/case", "", "x" * 300):
            await self.refused(BlueprintInvalid, self.engine.has_image(bad))
            await self.refused(BlueprintInvalid, self.engine.pull(bad, None, lambda _: None))

    async def test_pull_of_what_is_nowhere(self) -> None:
        """A pull that cannot succeed ends with ImagePullFailed, and the text names the image."""
        text = await self.refused(ImagePullFailed, self.engine.pull("nosuch.invalid/x:1", None, lambda _: None))
        self.assertIn("nosuch.invalid/x:1", text)

    # ------------------------------------------------------------------ create, inspect, list, remove

    async def test_created(self) -> None:
        """A container that was made is `created`, carries its labels, and has no times; id and name both find it."""
        made = await self.make("c", TALK)
        state = await self.engine.inspect(made)
        self.assertEqual(
            (state.status, state.running, state.pid, state.started_at, state.finished_at),
            ("created", False, 0, None, None),
        )
        self.assertEqual(state.labels["stellarstack.server"], "c")
        self.assertEqual(await self.engine.inspect(state.name), state)

    async def test_create_twice(self) -> None:
        """A name that is taken is an EngineConflict."""
        await self.make("c", TALK)
        await self.refused(EngineConflict, self.make("c", TALK))

    async def test_create_of_unknown_image(self) -> None:
        """An image that is not here is ImageNotFound."""
        body: dict[str, Json] = {"Image": "stellarstack-test/none:9"}
        await self.refused(ImageNotFound, self.engine.create_container(self.name("c"), body))

    async def test_what_is_not_there(self) -> None:
        """Each call about a container that is not there says ContainerGone, but a remove is content."""
        none = self.name("none")
        for work in (
            self.engine.inspect(none),
            self.engine.start(none),
            self.engine.kill(none, "SIGKILL"),
            self.engine.wait(none),
            self.engine.resize(none, PtySize()),
            self.engine.attach(none, Recorder()),
            self.engine.logs(none),
            self.engine.stats(none),
            self.engine.update_container(none, {"PidsLimit": 10}),
        ):
            await self.refused(ContainerGone, work)
        await self.engine.remove(none)

    async def test_list_by_labels(self) -> None:
        """The list holds what carries all of the labels, running or not."""
        one, two = await self.make("one", DEAF), await self.make("two", DEAF)
        await self.engine.start(two)
        found = await self.engine.containers({"stellarstack.node": self.label})
        self.assertEqual({row.id: row.running for row in found}, {one: False, two: True})
        narrow = {"stellarstack.node": self.label, "stellarstack.server": "one"}
        self.assertEqual([row.id for row in await self.engine.containers(narrow)], [one])

    async def test_remove_of_a_running_one(self) -> None:
        """Remove takes a running one away, ends its attach and its wait, and may be repeated."""
        made = await self.make("c", DEAF)
        sink = await self.run_until(made)
        waiting = deferred(self.engine.wait(made))
        await self.engine.remove(made)
        self.assertEqual(await waiting, 137)
        await sink.ended
        await self.engine.remove(made)
        await self.refused(ContainerGone, self.engine.inspect(made))

    # ------------------------------------------------------------------ start, signals, wait

    async def test_start(self) -> None:
        """A started one runs, with pid and time; starting it again is no error and changes nothing."""
        made = await self.make("c", DEAF)
        await self.engine.start(made)
        state = await self.engine.inspect(made)
        self.assertEqual((state.status, state.running, state.finished_at), ("running", True, None))
        self.assertGreater(state.pid, 0)
        self.assertIsNotNone(state.started_at)
        await self.engine.start(made)
        self.assertEqual(await self.engine.inspect(made), state)

    async def test_kill(self) -> None:
        """SIGKILL ends with 137; killing what does not run is no error, before the start and after the end."""
        made = await self.make("c", DEAF)
        await self.engine.kill(made, "SIGKILL")
        await self.run_until(made)
        await self.engine.kill(made, "SIGKILL")
        state = await self.engine.inspect(made)
        self.assertEqual((state.status, state.running, state.exit_code, state.pid), ("exited", False, 137, 0))
        self.assertIsNotNone(state.finished_at)
        await self.engine.kill(made, "SIGTERM")

    async def test_signals(self) -> None:
        """A signal goes to the program: one obeys SIGTERM in its own way, another is deaf to it."""
        obey, deaf = await self.make("obey", OBEY), await self.make("deaf", DEAF)
        await self.run_until(obey)
        await self.run_until(deaf)
        await self.engine.kill(deaf, "SIGTERM")
        await self.engine.kill(obey, "SIGTERM")
        self.assertEqual(await self.engine.wait(obey), 7)
        self.assertTrue((await self.engine.inspect(deaf)).running)

    async def test_unknown_signal(self) -> None:
        """A signal that there is not is refused, and nothing happens."""
        made = await self.make("c", DEAF)
        await self.engine.start(made)
        await self.refused(EngineRefused, self.engine.kill(made, "SIGNOPE"))
        self.assertTrue((await self.engine.inspect(made)).running)

    async def test_wait_of_what_does_not_run(self) -> None:
        """Wait answers at once where it does not run, with the last exit status."""
        made = await self.make("c", TALK)
        self.assertEqual(await self.engine.wait(made), 0)
        await self.run_until(made)
        await self.engine.kill(made, "SIGKILL")
        self.assertEqual(await self.engine.wait(made), 137)

    async def test_wait_cancelled(self) -> None:
        """A wait that is cancelled leaves the container alone."""
        made = await self.make("c", DEAF)
        await self.run_until(made)
        waiting = deferred(self.engine.wait(made))
        waiting.addErrback(lambda _: -1)
        waiting.cancel()
        self.assertEqual(await waiting, -1)
        self.assertTrue((await self.engine.inspect(made)).running)

    async def test_started_again(self) -> None:
        """A container that has ended can be started again, with attach and first byte as the first time."""
        made = await self.make("c", TALK)
        for _ in range(2):
            sink = Recorder()
            attachment = await self.engine.attach(made, sink)
            await self.engine.start(made)
            await sink.has(b"ready\r\n")
            self.assertTrue(sink.data.startswith(b"ready\r\n"))
            attachment.write(b"fail\r")
            self.assertEqual(await self.engine.wait(made), 3)
            await sink.ended
        self.assertEqual((await self.engine.inspect(made)).exit_code, 3)

    # ------------------------------------------------------------------ limits

    async def test_update(self) -> None:
        """The limits of a running container change, and it runs on; of one not started too."""
        host: Json = {"Memory": 64 << 20, "MemorySwap": 64 << 20, "NanoCpus": 500_000_000, "PidsLimit": 50}
        made = await self.make("c", DEAF, HostConfig=host)
        more: dict[str, Json] = {"Memory": 96 << 20, "MemorySwap": 96 << 20, "NanoCpus": 10**9, "PidsLimit": 60}
        self.assertEqual(await self.engine.update_container(made, more), [])
        await self.run_until(made)
        before = await self.engine.inspect(made)
        less: dict[str, Json] = {"Memory": 32 << 20, "MemorySwap": 32 << 20, "PidsLimit": -1}
        self.assertEqual(await self.engine.update_container(made, less), [])
        self.assertEqual(await self.engine.inspect(made), before)

    async def test_update_where_swap_is_endless(self) -> None:
        """The memory changes where swap has no limit, and swap can be given one."""
        made = await self.make("c", DEAF, HostConfig={"Memory": 64 << 20, "MemorySwap": -1})
        await self.run_until(made)
        for body in ({"Memory": 96 << 20, "MemorySwap": -1}, {"Memory": 32 << 20, "MemorySwap": 40 << 20}):
            self.assertEqual(await self.engine.update_container(made, body), [])

    async def test_update_refused(self) -> None:
        """What cannot be is EngineRefused, with the engine's words."""
        made = await self.make("c", DEAF, HostConfig={"Memory": 64 << 20, "MemorySwap": 64 << 20})
        await self.run_until(made)
        rows: tuple[tuple[dict[str, Json], str], ...] = (
            ({"Memory": 1 << 20, "MemorySwap": 1 << 20}, "inimum memory limit"),
            ({"Memory": 96 << 20, "MemorySwap": 32 << 20}, "memoryswap"),
            ({"Memory": 96 << 20}, "memoryswap"),
        )
        for body, words in rows:
            self.assertIn(words, await self.refused(EngineRefused, self.engine.update_container(made, body)))

    # ------------------------------------------------------------------ terminal

    async def test_talk(self) -> None:
        """Attach before start has the first byte; lines typed arrive, are echoed and answered; the end comes once."""
        made = await self.make("c", TALK)
        sink = Recorder()
        attachment = await self.engine.attach(made, sink)
        await self.engine.start(made)
        await sink.has(b"ready\r\n")
        attachment.write(b"hi\r")
        await sink.has(b"got hi\r\n")
        self.assertEqual(sink.data, b"ready\r\nhi\r\ngot hi\r\n")
        attachment.write(b"fail\r")
        self.assertEqual(await self.engine.wait(made), 3)
        await sink.ended
        attachment.write(b"more\r")
        attachment.close()
        self.pass_time()
        self.assertEqual(sink.ends, 1)

    async def test_late_attach(self) -> None:
        """An attach to one that runs brings what is printed from then on, and all attaches hear the same."""
        made = await self.make("c", TALK)
        first = await self.run_until(made, b"ready\r\n")
        second = Recorder()
        attachment = await self.engine.attach(made, second)
        attachment.write(b"hi\r")
        await first.has(b"got hi\r\n")
        await second.has(b"got hi\r\n")
        self.assertEqual(second.data, b"hi\r\ngot hi\r\n")
        self.assertEqual(first.data, b"ready\r\n" + second.data)

    async def test_close(self) -> None:
        """Closing one attach ends that one; the container and other attaches go on."""
        made = await self.make("c", TALK)
        first, second = Recorder(), Recorder()
        one = await self.engine.attach(made, first)
        two = await self.engine.attach(made, second)
        await self.engine.start(made)
        await second.has(b"ready\r\n")
        one.close()
        one.close()
        self.pass_time()
        await first.ended
        two.write(b"hi\r")
        await second.has(b"got hi\r\n")
        self.assertNotIn(b"got hi", first.data)
        self.assertEqual((first.ends, second.ends), (1, 0))

    async def test_resize(self) -> None:
        """A resize before the start does nothing and is no error; one that runs takes it."""
        made = await self.make("c", DEAF)
        await self.engine.resize(made, PtySize(100, 40))
        await self.run_until(made)
        await self.engine.resize(made, PtySize(101, 41))

    async def test_logs(self) -> None:
        """The log holds whole lines, the newest where a tail is asked for, none from before `since`."""
        made = await self.make("c", COUNT)
        await self.run_until(made, b"three\r\n")
        await self.engine.kill(made, "SIGKILL")
        self.assertEqual(await self.engine.logs(made), b"one\r\ntwo\r\nthree\r\n")
        self.assertEqual(await self.engine.logs(made, tail=2), b"two\r\nthree\r\n")
        finished = (await self.engine.inspect(made)).finished_at
        assert finished is not None
        self.assertEqual(await self.engine.logs(made, since=finished + 60), b"")

    async def test_stats(self) -> None:
        """A sample of a running container tells its processes."""
        made = await self.make("c", DEAF)
        await self.run_until(made)
        self.assertIn("pids_stats", await self.engine.stats(made))

    # ------------------------------------------------------------------ networks and ports

    async def test_networks(self) -> None:
        """A network is listed with its subnet; its name and its subnet are taken; removing it twice is no error."""
        name, other = self.name("net"), self.name("net2")
        labels = {"stellarstack.node": self.label}
        await self.engine.create_network(name, self.subnets[0], labels)
        self.assertEqual(await self.engine.networks(labels), {name: (self.subnets[0],)})
        self.assertIn("bridge", await self.engine.networks({}))
        await self.refused(EngineConflict, self.engine.create_network(name, self.subnets[1], labels))
        await self.refused(EngineConflict, self.engine.create_network(other, self.subnets[0], labels))
        await self.engine.remove_network(name)
        await self.engine.remove_network(name)
        self.assertEqual(await self.engine.networks(labels), {})

    async def test_network_in_use(self) -> None:
        """A container has an address in its network, which cannot be removed while it runs."""
        name = self.name("net")
        await self.engine.create_network(name, self.subnets[0], {"stellarstack.node": self.label})
        made = await self.make("c", DEAF, HostConfig={"NetworkMode": name})
        await self.run_until(made)
        prefix = self.subnets[0].rpartition(".")[0]
        self.assertTrue((await self.engine.inspect(made)).addresses[name].startswith(prefix))
        await self.refused(EngineConflict, self.engine.remove_network(name))
        await self.engine.remove(made)
        await self.engine.remove_network(name)

    async def test_network_missing(self) -> None:
        """A container whose network is gone is not started; the container itself is not what is missing."""
        made = await self.make("c", DEAF, HostConfig={"NetworkMode": self.name("nonet")})
        await self.refused(EngineRefused, self.engine.start(made))
        self.assertFalse((await self.engine.inspect(made)).running)

    async def test_port_in_use(self) -> None:
        """A port that a container holds is PortInUse, naming port and holder; once it is free the start succeeds."""
        ports: dict[str, Json] = {
            "NetworkMode": "bridge",
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(self.port)}]},
        }
        exposed: dict[str, Json] = {"80/tcp": {}}
        first = await self.make("first", DEAF, HostConfig=ports, ExposedPorts=exposed)
        second = await self.make("second", DEAF, HostConfig=ports, ExposedPorts=exposed)
        await self.engine.start(first)
        text = await self.refused(PortInUse, self.engine.start(second))
        self.assertIn(str(self.port), text)
        self.assertIn(self.name("first"), text)
        state = await self.engine.inspect(second)
        self.assertEqual((state.status, state.running), ("created", False))
        await self.engine.remove(first)
        await self.engine.start(second)
        self.assertTrue((await self.engine.inspect(second)).running)

    # ------------------------------------------------------------------ the feed

    async def test_events(self) -> None:
        """The feed tells a life in order, with labels and exit status, and nothing of unlabelled containers."""
        feed = Followed(self.engine, 0.0)
        await feed.connected
        other = await self.make("other", DEAF, Labels={})
        await self.engine.start(other)
        made = await self.make("c", TALK)
        await self.run_until(made)
        await self.engine.kill(made, "SIGKILL")
        await self.engine.remove(made)
        await self.told_of(feed, made, "destroy")
        self.assertEqual(feed.actions(made), ["create", "attach", "start", "kill", "die", "destroy"])
        self.assertEqual(feed.actions(other), [])
        died = next(event for event in feed.events if event.action == "die" and event.container_id == made)
        self.assertEqual((died.exit_code, died.labels["stellarstack.server"]), (137, "c"))
        await self.stop(feed)

    async def test_events_resume(self) -> None:
        """Who asks from a time on gets the events since then first; cancelling ends the feed.

        An engine keeps few past events, of everybody who uses it: the older ones of these may be missing, and only
        they. That all of them come is asked of one try out of a few.
        """
        since_start = ["start", "kill", "die", "destroy"]
        for attempt in range(5):
            told = await self.resumed(f"c{attempt}")
            self.assertEqual(told, since_start[-len(told) :])
            if told == since_start:
                return
        self.fail("no past event was told in any try")

    async def resumed(self, suffix: str) -> list[str]:
        """What is told of a container to somebody who asks again from its start on, when it has been killed."""
        made = await self.make(suffix, TALK)
        self.pass_time()
        first = Followed(self.engine, 0.0)
        await first.connected
        await self.run_until(made)
        start = await self.told_of(first, made, "start")
        await self.stop(first)
        self.pass_time()
        await self.engine.kill(made, "SIGKILL")
        second = Followed(self.engine, start.time)
        await second.connected
        await self.engine.remove(made)
        await self.told_of(second, made, "destroy")
        await self.stop(second)
        return [action for action in second.actions(made) if action != "attach"]  # at one moment with the start

    async def told_of(self, feed: Followed, container: str, action: str) -> EngineEvent:
        """The event of this action and container, when it is there."""
        while True:
            for event in feed.events:
                if (event.container_id, event.action) == (container, action):
                    return event
            await feed.next()

    async def stop(self, feed: Followed) -> None:
        feed.ended.addErrback(lambda _: None)
        feed.ended.cancel()
        await feed.ended
