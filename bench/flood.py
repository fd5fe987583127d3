"""How long a key's echo takes while another server floods its console, beside a raw attach in the same run.

`python bench/flood.py [--rate 30] [--echoes 500] [--rounds 3] [--viewers 1]`

A whole daemon runs two servers, and a third container is none of its own. One floods at about `--rate` MB/s (0: as
fast as it can) with `--viewers` that read along; the second is quiet and typed at through the daemon's WebSocket; the
third is as quiet and typed at by a raw attach on Docker's socket. Keys alternate between the two, so that both meet the
same moments; the echo is the terminal's own. First without the flood, then with it. Percentiles of all rounds, the
ratios, the flood that really came through and the daemon's memory are printed; the p99 under a flood of 20 MB/s and
more should stay below three times the raw attach's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.console import Reader, percentile, raw_attach
from tests.integration.node_process import NodeProcess

PAUSE = 0.005  # seconds between two keys
RAW = "stellarstack.console.v1.raw"
PIECE = 1_000_000  # bytes that a paced flood writes at once
LINE = "the quick brown fox jumps over the lazy dog 0123456789"

# Floods from `go` on, to its end; `quiet` only echoes.
FLOOD = f"""echo Done; read -r word
yes '{LINE}' | head -c {PIECE} >/tmp/piece
while :; do cat /tmp/piece; PACE; done"""
QUIET = "echo Done; while read -r line; do :; done"


@dataclass
class Way:
    name: str
    reader: Reader
    echoes: list[float] = field(default_factory=list)  # ms

    async def key(self, number: int) -> None:
        """Types one key and waits for its echo."""
        begun = time.perf_counter()
        self.reader.type(b"abcdefghij"[number % 10 : number % 10 + 1])
        await asyncio.wait_for(self.reader.some(), 30)
        self.echoes.append((time.perf_counter() - begun) * 1e3)


async def console(node: NodeProcess, server_id: str) -> Reader:
    """A viewer of the daemon's console, raw, from now on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=1 << 22)
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET /console?scrollback=0 HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {RAW}\r\n"
        f"Authorization: Bearer {node.token(server_id, ['console.read', 'console.write'])}\r\n\r\n"
    )
    writer.write(head.encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer.split(b"\r\n")[0]:
        raise ConnectionError(answer.decode(errors="replace"))
    viewer = Reader(reader, writer, frames=True)
    await viewer.some()  # ready
    return viewer


async def settle(reader: Reader) -> None:
    """Takes what was there before."""
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(reader.some(), 0.3)


async def swallow(reader: Reader, taken: list[int]) -> None:
    """Reads along for as long as the task lives."""
    while True:
        taken[0] += len(await reader.some())


async def alternate(ways: list[Way], count: int) -> None:
    for number in range(count):
        for way in ways:
            await way.key(number)
            await asyncio.sleep(PAUSE)
        if number % 64 == 63:  # the terminal's line is not endless
            for way in ways:
                way.reader.type(b"\r")
                await settle(way.reader)


def show(title: str, ways: list[Way]) -> None:
    print(title)
    halves, mosts = ([percentile(way.echoes, share) for way in ways] for share in (0.5, 0.99))
    for way, half, most in zip(ways, halves, mosts, strict=True):
        ratios = half / halves[0], most / mosts[0]
        print(
            f"  {way.name:18} p50 {half:7.2f} ms ({ratios[0]:5.2f})   p99 {most:7.2f} ms ({ratios[1]:5.2f})", flush=True
        )


async def measure(options: argparse.Namespace, node: NodeProcess, container: str) -> None:
    quiet = await console(node, "srv_quiet")
    raw = await raw_attach(container)
    await settle(quiet)
    await settle(raw)

    def ways() -> list[Way]:
        return [Way("raw attach", raw), Way("console", quiet)]

    idle = ways()
    await alternate(idle, options.echoes)
    show(f"echo at an idle node, {options.echoes} keys each", idle)
    taken = [0]
    readers = [await console(node, "srv_flood") for _ in range(options.viewers)]
    reading = [asyncio.ensure_future(swallow(reader, taken)) for reader in readers]
    readers[0].type(b"go\r")
    await asyncio.sleep(2)
    flooded = ways()
    begun, taken[0], largest = time.perf_counter(), 0, 0
    for _ in range(options.rounds):
        await alternate(flooded, options.echoes // options.rounds)
        largest = max(largest, node.rss())
    rate = taken[0] / (time.perf_counter() - begun) / max(1, options.viewers) / 1e6
    show(f"echo under a flood of {rate:.1f} MB/s, {len(flooded[0].echoes)} keys each", flooded)
    print(f"  the daemon's memory: {largest / 2**20:.0f} MB", flush=True)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    for reader in (*readers, quiet, raw):
        reader.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=30, help="MB/s, 0: as fast as it can")
    parser.add_argument("--echoes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--viewers", type=int, default=1, help="of the flood, at least one")
    options = parser.parse_args()
    node = NodeProcess()
    pace = f"busybox usleep {int(PIECE / options.rate)}" if options.rate else ":"
    resources = {"memory": 64, "swap": 0, "cpu": 2.0, "disk": 64, "pids": 32}
    words = ["docker", "run", "-dit", "--network", "none", "--log-driver", "local", node.image, "/bin/sh", "-c", QUIET]
    container = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        node.start()
        node.create("srv_quiet", QUIET, resources=resources)
        node.create("srv_flood", FLOOD.replace("PACE", pace), resources=resources)
        asyncio.run(measure(options, node, container))
    finally:
        subprocess.run(["docker", "rm", "-f", container], check=False, capture_output=True)
        node.close()


if __name__ == "__main__":
    main()
