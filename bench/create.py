"""How long many creates take that come at once, beside the same `docker network create` + `docker run -d`.

`python bench/create.py [--servers 30 100] [--rounds 3] [--parallel 16] [--socket PATH]`

Both ways make, on one engine and in turns, servers with a /28 bridge of their own, a published port (tcp and udp), a
bound folder and the same limits and fences, `--parallel` at a time (the daemon's `[limits] parallel_commands`). Ours is
a real daemon, told by Redis; its time goes from the first command sent to the last result, and each server's ready
check is part of it. Medians of the rounds, and the CPU seconds of the daemon and of the engine. Without `--socket` the
engine is one of the bench's own (needs root), so that others are not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.images import ensure_busybox_image
from tests.integration.node_process import GAME, NodeProcess, blueprint
from tests.private_dockerd import PrivateDockerd
from tests.redis_server import Ask, RedisServer

FIRST_PORT = 20_100
POOL = IPv4Network("10.214.0.0/16")
PATIENCE = 600.0


def cpu_of(*pids: int) -> float:
    """CPU seconds of these processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


@dataclass
class Engine:
    """The engine under both. `pids`: dockerd and containerd, where they are known."""

    socket: Path
    pids: list[int] = field(default_factory=list)

    def docker(self, *arguments: str) -> str:
        """Runs the docker command; RuntimeError with its words where it fails."""
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def engine_at(socket: Path | None) -> Iterator[Engine]:
    if socket is not None:
        yield Engine(socket)
        return
    own = PrivateDockerd(live_restore=True)
    try:
        own.start()
        own.load_busybox()
        yield Engine(own.socket, own.pids)
    finally:
        own.close()


class ByHand:
    """The docker command, as many at a time as the daemon has commands."""

    name = "docker run"

    def __init__(self, engine: Engine, parallel: int, image: str) -> None:
        self._engine = engine
        self._pool = ThreadPoolExecutor(parallel)
        self._image = image
        self._folder = Path(tempfile.mkdtemp(prefix="stellar-bench-"))

    def make(self, count: int) -> None:
        list(self._pool.map(self._one, range(count)))

    def remove(self, count: int) -> None:
        list(self._pool.map(self._remove, range(count)))

    def cpu(self) -> float:
        return 0.0

    def close(self) -> None:
        self._pool.shutdown()
        shutil.rmtree(self._folder)

    def _one(self, number: int) -> None:
        name, port = f"bench_{number}", FIRST_PORT + number
        root = self._folder / name
        root.mkdir()
        os.chown(root, 988, 988)
        subnet = str(IPv4Network((int(POOL.network_address) + 16 * number, 28)))
        self._engine.docker("network", "create", "--driver", "bridge", "--subnet", subnet, name)
        self._engine.docker(
            "run", "-d", "-i", "-t", "--name", name, "--network", name, "--user", "988:988", "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--memory", "32m", "--memory-swap", "32m",
            "--cpus", "0.5", "--pids-limit", "32", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777,size=100m",
            "--log-driver", "local", "--log-opt", "max-size=16m", "--log-opt", "max-file=2",
            "-p", f"{port}:{port}/tcp", "-p", f"{port}:{port}/udp", "-v", f"{root}:/data:rw", "-w", "/data",
            "--entrypoint", "/bin/sh", self._image, "-c", GAME,
        )  # fmt: skip

    def _remove(self, number: int) -> None:
        name = f"bench_{number}"
        self._engine.docker("rm", "-f", "-v", name)
        self._engine.docker("network", "rm", name)
        shutil.rmtree(self._folder / name)


class ByDaemon:
    """The daemon, told by Redis."""

    name = "the daemon"

    def __init__(self, node: NodeProcess, parallel: int) -> None:
        self._node = node
        self._parallel = parallel

    def make(self, count: int) -> None:
        self._all("server.create", range(count), self._create)

    def remove(self, count: int) -> None:
        """As many at a time as `docker rm` is called: it is not measured, and Docker ends containers one by one."""
        for first in range(0, count, self._parallel):
            numbers = range(first, min(count, first + self._parallel))
            self._all("server.delete", numbers, lambda number: {})

    def cpu(self) -> float:
        assert self._node.process is not None
        return cpu_of(self._node.process.pid)

    def close(self) -> None:
        self._node.close()

    def _create(self, number: int) -> dict[str, Any]:
        ports = [FIRST_PORT + number]
        return {
            "blueprint": blueprint(self._node.image),
            "config": {"ports": ports, "memory": 32, "cpu": 0.5, "pids": 32},
        }

    def _all(self, kind: str, numbers: range, payload: Callable[[int], dict[str, Any]]) -> None:
        """Sends all and waits for all results; RuntimeError where one failed."""
        listener = Ask(("127.0.0.1", self._node.redis_port), timeout=PATIENCE)
        listener("SUBSCRIBE", f"stellar:nodes:{self._node.node_id}:events")
        for number in numbers:
            self._node.send(kind, serverId=f"bench_{number}", **payload(number))
        left = len(numbers)
        while left:
            event = json.loads(listener.read()[2])
            if event["type"] == "command.result":
                left -= 1
                status = (event.get("result") or {}).get("status", "running")
                if event["status"] != "succeeded" or status != "running":
                    raise RuntimeError(f"{kind}: {event}")
        listener.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--servers", type=int, nargs="+", default=[30, 100])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--parallel", type=int, default=16)
    options.add_argument("--socket", type=Path)
    asked = options.parse_args()
    image = ensure_busybox_image()
    redis = RedisServer("appendonly yes").start()
    try:
        with engine_at(asked.socket) as engine:
            extra = f"[limits]\nparallel_commands = {asked.parallel}\n"
            node = NodeProcess(redis, extra, docker=engine.socket)
            ways = (ByHand(engine, asked.parallel, image), ByDaemon(node, asked.parallel))
            try:
                node.start()
                for count in asked.servers:
                    measure(ways, engine, count, asked.rounds)
            finally:
                for way in ways:
                    way.close()
    finally:
        redis.stop()


def measure(ways: tuple[ByHand, ByDaemon], engine: Engine, count: int, rounds: int) -> None:
    """Prints the times of `count` creates, and our time as a multiple of Docker's own."""
    took: dict[str, list[float]] = {way.name: [] for way in ways}
    print(f"{count} servers at once, {rounds} rounds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for number in range(rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            before, engines, began = way.cpu(), cpu_of(*engine.pids), time.perf_counter()
            way.make(count)
            seconds = time.perf_counter() - began
            took[way.name].append(seconds)
            used = f"daemon {way.cpu() - before:.1f} s, engine {cpu_of(*engine.pids) - engines:.1f} s of CPU"
            print(f"  {way.name:12} {seconds:6.1f} s  {1e3 * seconds / count:5.0f} ms each  {used}", flush=True)
            way.remove(count)
    base, ours = (statistics.median(took[way.name]) for way in ways)
    ratios = [mine / theirs for theirs, mine in zip(*took.values(), strict=True)]
    print(f"  median: docker run {base:.1f} s, the daemon {ours:.1f} s: {ours / base:.2f} times (each round: "
          f"{', '.join(f'{ratio:.2f}' for ratio in ratios)})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
