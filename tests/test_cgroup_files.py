"""The parsers of cgroup files, on recorded ones of v1 and v2."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core import cgroup_files as files
from tests.examples import examples

RECORDED = Path(__file__).parent / "recorded"
ID1 = "1e8a4bc46f7ae672b39f59050a40d4e83616832b3392f1dc6b65ce3900257f31"
ID2 = "4f2c9a1d7be0835c6f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978"


def recorded(version: int, name: str) -> str:
    return (RECORDED / f"cgroup{version}" / name).read_text()


class PlacesTests(SynchronousTestCase):
    """Where a container's files are."""

    def test_v1(self) -> None:
        """On v1 each controller has its mount; a v2 hierarchy without controllers beside them is left alone."""
        mounts = files.cgroup_mounts(recorded(1, "mountinfo"))
        found = files.container_files(mounts, files.container_cgroups(recorded(1, "proc_cgroup")))
        assert found is not None
        self.assertEqual(found.version, 1)
        self.assertEqual(found.cpu, f"/sys/fs/cgroup/cpuacct/docker/{ID1}/cpuacct.usage")
        self.assertEqual(found.memory_events, f"/sys/fs/cgroup/memory/docker/{ID1}/memory.oom_control")

    def test_v1_controllers_mounted_together(self) -> None:
        """`cpu,cpuacct` in one mount, as systemd does it, is found by either name."""
        mounts = files.cgroup_mounts(
            "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:10 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
        )
        self.assertEqual(mounts.v1["cpuacct"], ("/sys/fs/cgroup/cpu,cpuacct", "/"))
        groups = files.container_cgroups(f"4:cpu,cpuacct:/system.slice/docker-{ID2}.scope\n")
        self.assertEqual(groups["cpuacct"], f"/system.slice/docker-{ID2}.scope")

    def test_v2_systemd(self) -> None:
        """On v2 the container's own group is taken, also where its first process sits in one below it."""
        mounts = files.cgroup_mounts(recorded(2, "mountinfo"))
        found = files.container_files(mounts, files.container_cgroups(recorded(2, "proc_cgroup")))
        assert found is not None
        self.assertEqual(found.version, 2)
        self.assertEqual(found.memory, f"/sys/fs/cgroup/system.slice/docker-{ID2}.scope/memory.current")

    def test_v2_cgroupfs(self) -> None:
        """The cgroupfs driver's path is a container's too."""
        groups = files.container_cgroups(recorded(2, "proc_cgroup.cgroupfs"))
        self.assertEqual(groups, {"": f"/docker/{ID2}"})

    def test_no_container(self) -> None:
        """A process of the host, as a pid used again shows, and a path that leads out have no container's group."""
        for text in (
            "0::/system.slice/ssh.service",
            f"0::/../../docker/{ID1}",
            "0::/",
            "",
            "nonsense",
            f"0::/../{ID2}",
        ):
            self.assertEqual(files.container_cgroups(text), {}, text)

    def test_nothing_mounted(self) -> None:
        """Where no known hierarchy is mounted there are no files, and no error."""
        groups = files.container_cgroups(recorded(1, "proc_cgroup"))
        self.assertIsNone(files.container_files(files.cgroup_mounts("1 2 3\nshort - \n"), groups))
        self.assertIsNone(files.container_files(files.cgroup_mounts(recorded(2, "mountinfo")), {}))

    def test_mount_of_a_part(self) -> None:
        """A mount that shows only a part of the hierarchy: paths are taken relative to it, others are not there."""
        mounts = files.cgroup_mounts(f"28 21 0:25 /docker/{ID1} /cg rw - cgroup2 cgroup2 rw\n")
        found = files.container_files(mounts, {"": f"/docker/{ID1}/inner"})
        assert found is not None
        self.assertEqual(found.pids, "/cg/inner/pids.current")
        self.assertIsNone(files.container_files(mounts, {"": f"/docker/{ID1}0"}))

    def test_escaped_mount_point(self) -> None:
        """A mount point with a space in its name is read as it is."""
        mounts = files.cgroup_mounts("28 21 0:25 / /my\\040cg rw - cgroup2 cgroup2 rw\n")
        self.assertEqual(mounts.v2, ("/my cg", "/"))


class FiguresTests(SynchronousTestCase):
    """What the files say."""

    def test_v1(self) -> None:
        """The recorded container of v1 has the figures that Docker's stats showed of it."""
        self.assertEqual(files.cpu_seconds(recorded(1, "cpuacct.usage"), 1), 0.025145208)
        self.assertEqual(files.memory_used(recorded(1, "memory.usage_in_bytes"), recorded(1, "memory.stat"), 1), 937984)
        self.assertEqual(files.memory_limit(recorded(1, "memory.limit_in_bytes")), 64 * 2**20)
        self.assertEqual(files.oom_kills(recorded(1, "memory.oom_control")), 0)
        self.assertEqual(files.network_bytes(recorded(1, "net_dev")), (486, 0))
        self.assertEqual(files.block_bytes(recorded(1, "blkio.throttle.io_service_bytes_recursive"), 1), (0, 0))
        self.assertEqual(files.block_bytes(recorded(1, "blkio.busy"), 1), (4198400, 8388608))

    def test_v2(self) -> None:
        """The same figures in the words of v2."""
        self.assertEqual(files.cpu_seconds(recorded(2, "cpu.stat"), 2), 25.145208)
        self.assertEqual(
            files.memory_used(recorded(2, "memory.current"), recorded(2, "memory.stat"), 2), 268435456 - 68157440
        )
        self.assertEqual(files.memory_limit(recorded(2, "memory.max")), 512 * 2**20)
        self.assertEqual(files.oom_kills(recorded(2, "memory.events")), 2)
        self.assertEqual(files.block_bytes(recorded(2, "io.stat"), 2), (4198400, 8388608))

    def test_no_limit(self) -> None:
        """No limit is 0, in the words of both versions."""
        self.assertEqual(files.memory_limit("max\n"), 0)
        self.assertEqual(files.memory_limit("9223372036854771712\n"), 0)

    def test_cache_over_usage(self) -> None:
        """Where the kernel's figures disagree (more cache than usage) memory is the usage, never negative."""
        self.assertEqual(files.memory_used("100\n", "inactive_file 200\n", 2), 100)

    def test_many_interfaces(self) -> None:
        """All interfaces count but the loopback, and one whose name leaves no space before the number."""
        text = "h1 |x\n h2|y\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n eth0: 5 0 0 0 0 0 0 0 7 0 0 0 0 0 0 0\n" + (
            "longname10:3 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\n"
        )
        self.assertEqual(files.network_bytes(text), (8, 9))

    def test_truncated(self) -> None:
        """A file without the number that it must have is a ValueError, not a 0."""
        for broken in (
            lambda: files.cpu_seconds("", 1),
            lambda: files.cpu_seconds("user_usec 3\n", 2),
            lambda: files.memory_used("", "", 1),
            lambda: files.oom_kills("under_oom 0\n"),
        ):
            self.assertRaises(ValueError, broken)

    @examples(35)
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever stands in a file or a mount table, what comes is an answer or a ValueError."""
        files.cgroup_mounts(text)
        files.container_cgroups(text)
        for read in (
            files.network_bytes,
            files.oom_kills,
            files.memory_limit,
            lambda found: files.block_bytes(found, 1),
            lambda found: files.block_bytes(found, 2),
            lambda found: files.memory_used(found, found, 1),
        ):
            try:
                read(text)
            except ValueError:
                continue
