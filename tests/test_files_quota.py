"""Project quotas: the kernel's words, spoken and understood. tests.integration.test_limits tries a kernel itself."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.errors import StellarError
from stellarstack.files.quota import LinuxKernel, ProjectQuota, Usage, device_of
from tests.fake_quota import FakeKernel

STATE, GET, SET = 0x5808, 0x800007, 0x800008
GET_ATTRIBUTES, SET_ATTRIBUTES = 0x801C581F, 0x401C5820


class QuotaCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()
        self.root.mkdir(parents=True)
        self.kernel = FakeKernel()
        self.quota = ProjectQuota(self.root, self.kernel)
        self.addCleanup(self.quota.close)

    def descriptor(self) -> int:
        descriptor = os.open(self.root, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        return descriptor


class MissingTests(QuotaCase):
    def test_nothing_missing(self) -> None:
        """A file system that counts and enforces is fit."""
        self.kernel.quotas[0] = struct.pack("=8QI4x", *[0] * 9)
        self.assertEqual(self.quota.missing(), "")

    def test_what_is_missing(self) -> None:
        """Not counted, not enforced, no quota at all, not allowed: each is told in its own words."""
        self.kernel.quotas[0] = struct.pack("=8QI4x", *[0] * 9)
        rows = [
            (0, {}, "is on a file system without project quota; mount it with prjquota"),
            (0x10, {}, "counts but does not hold"),
            (0x30, {STATE: errno.ENOSYS}, "without project quota"),
            (0x30, {STATE: errno.ESRCH}, "without project quota"),
            (0x30, {GET_ATTRIBUTES: errno.ENOTTY}, "without project quota"),
            (0x30, {GET: errno.EPERM}, "cannot be used: Operation not permitted"),
        ]
        for flags, faults, words in rows:
            self.kernel.flags, self.kernel.error = flags, faults
            self.assertIn(words, self.quota.missing())


class BookTests(QuotaCase):
    def test_usage(self) -> None:
        """What the books say comes in bytes and files, limits too; a project without a record holds nothing."""
        self.assertEqual(self.quota.usage(7), Usage(0, 0))
        self.quota.set_limit(7, 10 * 2**20, 500)
        self.assertEqual(self.quota.usage(7), Usage(4096, 3, 10 * 2**20, 500))

    def test_limits(self) -> None:
        """A limit is rounded down to KiB, is never rounded to none, and 0 is none."""
        for space, limit in ((5000, 4096), (10, 1024), (0, 0)):
            self.quota.set_limit(7, space, 0)
            self.assertEqual(self.quota.usage(7).space_limit, limit)

    def test_refused(self) -> None:
        """What the kernel refuses is one line that names folder and reason."""
        self.kernel.error = {GET: errno.EIO, SET: errno.EPERM}
        self.assertIn("Input/output error", str(self.assertRaises(StellarError, self.quota.usage, 7)))
        self.assertIn("not permitted", str(self.assertRaises(StellarError, self.quota.set_limit, 7, 1, 1)))


class LabelTests(QuotaCase):
    def test_folder(self) -> None:
        """A folder gets the project and hands it on; its other attributes stay."""
        folder = self.descriptor()
        self.assertEqual(self.quota.project_of(folder), 0)
        self.quota.put_into(folder, 77, folder=True)
        self.assertEqual(self.quota.project_of(folder), 77)
        self.assertEqual(struct.unpack("=5I8x", self.kernel.attributes[os.fstat(folder).st_ino]), (0x200, 7, 8, 77, 9))

    def test_file(self) -> None:
        """A file gets the project without the flag, which would mean nothing."""
        descriptor = self.descriptor()
        self.quota.put_into(descriptor, 77, folder=False)
        self.assertEqual(struct.unpack("=5I8x", self.kernel.attributes[os.fstat(descriptor).st_ino])[0], 0)
        self.assertEqual(self.quota.project_of(descriptor), 0)

    def test_only_what_changes(self) -> None:
        """What is labelled already is not written again."""
        folder = self.descriptor()
        self.quota.put_into(folder, 77, folder=True)
        self.quota.put_into(folder, 77, folder=True)
        self.assertEqual(len([one for one in self.kernel.calls if one[0] == SET_ATTRIBUTES]), 1)

    def test_out_of_any(self) -> None:
        """Project 0 takes the inherit flag away as well."""
        folder = self.descriptor()
        self.quota.put_into(folder, 77, folder=True)
        self.quota.put_into(folder, 0, folder=True)
        self.assertEqual(struct.unpack("=5I8x", self.kernel.attributes[os.fstat(folder).st_ino]), (0, 7, 8, 0, 9))


class DeviceTests(SynchronousTestCase):
    MOUNTS = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/null rw\n"
        "23 22 0:5 / /proc rw shared:2 master:3 - proc proc rw\n"
        "24 22 8:2 / /srv rw - ext4 /dev/no-such-disk rw,prjquota\n"
    )

    def test_named(self) -> None:
        """The device is what mountinfo names for the number, or the kernel's own name where that is not there."""
        self.assertEqual(device_of(os.makedev(8, 1), self.MOUNTS), "/dev/null")
        self.assertEqual(device_of(os.makedev(8, 2), self.MOUNTS), "/dev/block/8:2")
        self.assertRaises(OSError, device_of, os.makedev(9, 9), self.MOUNTS)


class KernelTests(SynchronousTestCase):
    def test_this_kernel(self) -> None:
        """Asked about a folder of /proc, a real kernel says that it keeps no quota there."""
        quota = ProjectQuota(Path("/proc"), LinuxKernel())
        self.addCleanup(quota.close)
        self.assertIn("/proc", quota.missing())
