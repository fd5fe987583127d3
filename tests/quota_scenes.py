"""What project quota does to a tenant, played through on a real file system; prints what happened as JSON.

`python -m tests.quota_scenes FSTYPE DEVICE` as root, under a kernel that has project quotas; see tests.quota_kernel.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from stellarstack.core.messages import Json
from stellarstack.files.fence import DiskFence
from stellarstack.files.quota import LinuxKernel, ProjectQuota

TENANT = 988
MB = 1 << 20


class KeptValues:
    """The store's named values."""

    def __init__(self) -> None:
        self.values: dict[str, Json] = {}

    async def get_value(self, key: str) -> Json:
        return self.values.get(key)

    async def put_value(self, key: str, value: Json) -> None:
        self.values[key] = value

    def numbers(self, server_id: str) -> Any:
        return cast(Any, self.values["files.projects"])[server_id]


def as_tenant(work: Callable[[], int]) -> list[Any]:
    """Does `work` in a process of the tenant's user, without capabilities; answers its count and how it was refused."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(TENANT)
        os.setuid(TENANT)
        done, refused = 0, ""
        try:
            while done < 64 * MB:
                done += work()
        except OSError as error:
            refused = errno.errorcode[error.errno or 0]
        os.write(writing, json.dumps([done, refused]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told: list[Any] = json.loads(answer.read())
    os.waitpid(child, 0)
    return told


def filler(path: Path) -> Callable[[], int]:
    def write() -> int:
        with path.open("ab", buffering=0) as file:
            return file.write(b"z" * 65536)

    return write


def maker(folder: Path) -> Callable[[], int]:
    made = iter(range(1 << 30))

    def make() -> int:
        (folder / f"empty{next(made)}").touch()
        return 1

    return make


def tree(root: Path, outside: Path) -> None:
    """A server's folder from before there were quotas, with a link of the tenant's to somewhere else."""
    (root / "world/deep").mkdir(parents=True)
    (root / "world/level").write_bytes(b"x" * 100_000)
    (root / "escape").symlink_to(outside)
    os.mkfifo(root / "pipe")
    for path in [root, *root.rglob("*")]:
        os.chown(path, TENANT, TENANT, follow_symlinks=False)


def project_of(path: Path) -> int:
    quota = ProjectQuota(path, LinuxKernel())
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return quota.project_of(descriptor)
    finally:
        os.close(descriptor)
        quota.close()


async def play(reactor: Any, servers: Path) -> dict[str, Any]:
    """Two servers, one of which fills its share."""
    told: dict[str, Any] = {}
    values = KeptValues()

    def make_fence(store: KeptValues) -> DiskFence:
        return DiskFence(servers=servers, store=store, reactor=reactor, clock=reactor, over=lambda *_: None)

    fence = make_fence(values)
    one, two, outside = servers / "srv_1", servers / "srv_2", servers / "outside"
    outside.mkdir()
    tree(one, outside)
    tree(two, outside)
    await fence.start()
    told["exact"] = fence.exact
    await fence.limit("srv_1", one, 8 * MB)
    await fence.limit("srv_2", two, 4 * MB)
    told["before"] = fence.count("srv_1")
    told["filled"] = as_tenant(filler(one / "world/deep/fill"))
    told["full"] = fence.count("srv_1")
    told["neighbour"] = as_tenant(filler(two / "fill"))
    await fence.limit("srv_1", one, 16 * MB)
    told["raised"] = [as_tenant(filler(one / "more"))[1], fence.count("srv_1")]
    (one / "more").unlink()
    told["empty_files"] = as_tenant(maker(one / "world"))
    told["outside"] = project_of(outside)
    lost = KeptValues()
    again = make_fence(lost)
    await again.start()
    await again.limit("srv_1", one, 8 * MB)
    told["same_number"] = lost.numbers("srv_1") == values.numbers("srv_1")
    await again.forget("srv_1", one)
    told["forgotten"] = [project_of(one), lost.values["files.projects"]]
    await again.stop()
    await fence.stop()
    return told


def main() -> None:
    kind, device = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="stellar-quota-"))
    subprocess.run(["mount", "-t", kind, "-o", "prjquota", device, str(folder)], check=True)
    try:
        servers = folder / "servers"
        servers.mkdir()
        folder.chmod(0o755)
        react(lambda reactor: Deferred.fromCoroutine(_show(reactor, servers)))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
        folder.rmdir()


async def _show(reactor: Any, servers: Path) -> None:
    print(json.dumps(await play(reactor, servers)), flush=True)


if __name__ == "__main__":
    main()
