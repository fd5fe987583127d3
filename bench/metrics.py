"""What metrics of many idle containers cost at 1 Hz, beside the same through Docker's stats API.

`python bench/metrics.py [--servers 100] [--seconds 30] [--rounds 3]`

A real daemon keeps `--servers` idle servers on an engine of the bench's own (needs root). In each round the CPU seconds
of the daemon, of dockerd and of containerd are counted over `--seconds`: with the daemon's own sampler, which reads
cgroup files and publishes; with that sampler at its slowest, which is what all else costs; and so with a reader beside
it that asks `/containers/ID/stats?stream=0&one-shot=1` of every container each second, as plainly as can be, all at
once and over kept connections. Printed are the costs above the floor and their ratio, and how many `server.metrics`
each server had.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.node_process import NodeProcess, blueprint
from tests.private_dockerd import PrivateDockerd
from tests.redis_server import Ask, RedisServer

IDLE = "echo Done; exec sleep 100000"


@dataclass(frozen=True)
class Cost:
    """CPU seconds for each second that passed, in percent of one core: who asks, and the engine."""

    asker: float
    engine: float

    @property
    def all(self) -> float:
        return self.asker + self.engine

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.asker - other.asker, self.engine - other.engine)

    def __str__(self) -> str:
        return f"asker {self.asker:6.2f} %  engine {self.engine:6.2f} %  together {self.all:6.2f} % of a core"


def cpu_of(pids: Sequence[int]) -> float:
    """CPU seconds of these processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


# ------------------------------------------------------------------ Docker's own way


async def read_stats(socket: str, containers: Sequence[str], seconds: float) -> int:
    """Asks for every container each second, all at once; answers how many samples came."""
    links = [await asyncio.open_unix_connection(socket) for _ in containers]
    samples, first = 0, time.monotonic()
    for tick in range(int(seconds)):
        await asyncio.sleep(max(0.0, first + tick - time.monotonic()))
        if time.monotonic() - first >= seconds:
            break
        both = zip(links, containers, strict=True)
        samples += sum(await asyncio.gather(*(one_sample(link, container) for link, container in both)))
    await asyncio.sleep(max(0.0, first + seconds - time.monotonic()))
    return samples


async def one_sample(link: tuple[asyncio.StreamReader, asyncio.StreamWriter], container: str) -> int:
    reader, writer = link
    path = f"/v1.41/containers/{container}/stats?stream=0&one-shot=1"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length: " in head:
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
    else:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    return 1 if json.loads(body)["memory_stats"] else 0


# ------------------------------------------------------------------ what is measured


class Bench:
    """A daemon with many idle servers, and what it costs in each way of measuring them."""

    def __init__(self, engine: PrivateDockerd, redis: RedisServer, servers: int, seconds: int) -> None:
        self._engine = engine
        self._node = NodeProcess(redis, docker=engine.socket)
        self._plain = self._node.config.read_text()
        self._servers = servers
        self._seconds = seconds

    def close(self) -> None:
        self._node.close()

    def fill(self) -> None:
        """Makes the servers."""
        self._start(1.0)
        for number in range(self._servers):
            made = blueprint(self._node.image, IDLE)
            self._node.send("server.create", serverId=f"idle_{number}", blueprint=made)
        self._node.until(lambda: len(self._running()) == self._servers, 600, "all servers to run")
        self._node.term()

    def ours(self) -> tuple[Cost, list[int]]:
        """The daemon's sampler at 1 Hz; its cost, and how many events each server had, lowest first."""
        self._start(1.0)
        listener = Ask(("127.0.0.1", self._node.redis_port), timeout=30)
        listener("PSUBSCRIBE", "stellar:servers:*:metrics")
        events: Counter[str] = Counter()
        before = self._cpu()
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            events[json.loads(listener.read()[3])["serverId"]] += 1
        cost = self._cost(before, 0.0)
        listener.close()
        self._node.term()
        return cost, sorted(events.values())

    def theirs(self) -> tuple[Cost, Cost, int]:
        """Without sampling; with a reader of the stats API beside it; and how many samples that one got."""
        self._start(3600.0)
        before = self._cpu()
        time.sleep(self._seconds)
        floor = self._cost(before, 0.0)
        containers = self._running()
        before, own = self._cpu(), time.process_time()
        samples = asyncio.run(read_stats(str(self._engine.socket), containers, self._seconds))
        cost = self._cost(before, time.process_time() - own)
        self._node.term()
        return floor, cost, samples

    def _start(self, interval: float) -> None:
        self._node.config.write_text(f"{self._plain}[metrics]\ninterval = {interval}\n")
        self._node.start()
        time.sleep(5)

    def _running(self) -> list[str]:
        return self._engine.docker("ps", "-q", "--no-trunc").split()

    def _cpu(self) -> tuple[float, float, float]:
        assert self._node.process is not None
        return cpu_of([self._node.process.pid]), cpu_of(self._engine.pids), time.monotonic()

    def _cost(self, before: tuple[float, float, float], reader: float) -> Cost:
        daemon, engine, now = (after - earlier for after, earlier in zip(self._cpu(), before, strict=True))
        return Cost(100 * (daemon + reader) / now, 100 * engine / now)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--servers", type=int, default=100)
    options.add_argument("--seconds", type=int, default=30)
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    redis = RedisServer().start()
    engine = PrivateDockerd(live_restore=True)
    try:
        engine.start()
        engine.load_busybox()
        bench = Bench(engine, redis, asked.servers, asked.seconds)
        try:
            bench.fill()
            compare(bench, asked.servers, asked.seconds, asked.rounds)
        finally:
            bench.close()
    finally:
        engine.close()
        redis.stop()


def compare(bench: Bench, servers: int, seconds: int, rounds: int) -> None:
    """Prints each round and the medians."""
    print(f"{servers} idle servers, {seconds} s each; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    ratios = []
    for _ in range(rounds):
        ours, events = bench.ours()
        floor, theirs, samples = bench.theirs()
        mine, others = ours - floor, theirs - floor
        ratios.append(others.all / max(mine.all, 0.01))
        print(f"  no metrics          {floor}")
        print(f"  the daemon, 1 Hz    {ours}; above none {mine.all:.2f} %")
        print(f"  Docker's stats API  {theirs}; above none {others.all:.2f} %")
        print(f"  {ratios[-1]:.1f} times cheaper; {len(events)} servers had {events[0]} to {events[-1]} events each in "
              f"{seconds} s; the API: {samples / seconds:.1f} samples a second", flush=True)  # fmt: skip
    print(f"  median: {statistics.median(ratios):.1f} times cheaper")


if __name__ == "__main__":
    main()
