"""How fast the console is, against Docker's own `attach/ws` and a raw attach on Docker's socket; prints ratios.

`python bench/console.py [--megabytes 64] [--rounds 5] [--viewers 1 10] [--echoes 300]`

A child process serves the daemon's console rooms (Consoles, DockerEngine, WebSocket door) on loopback. For every way
the same container floods `--megabytes` once a round and all viewers of the round read it to its last line; then one
key after another is typed at an idle console. Medians of the rounds are printed, and the child's own CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.images import ensure_busybox_image

SOCKET = "/var/run/docker.sock"
RAW = "stellarstack.console.v1.raw"
JSON = "stellarstack.console.v1"
END = b"THE END"


@dataclass
class Reader:
    """One viewer's connection. `frames`: WebSocket framing is taken off."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    frames: bool
    json: bool = False
    size: int = 0
    _pending: bytearray = field(default_factory=bytearray)

    async def some(self) -> bytes:
        """What came, without its framing."""
        while True:
            data = await self.reader.read(1 << 20)
            if not data:
                raise ConnectionError("the server closed")
            if not self.frames:
                return data
            self._pending += data
            if found := self._payloads():
                return found

    def _payloads(self) -> bytes:
        parts, at, view = [], 0, self._pending
        while len(view) - at >= 2:
            size, head = view[at + 1] & 0x7F, 2
            if size == 126:
                head, size = 4, struct.unpack_from("!H", view, at + 2)[0] if len(view) - at >= 4 else 1 << 62
            elif size == 127:
                head, size = 10, struct.unpack_from("!Q", view, at + 2)[0] if len(view) - at >= 10 else 1 << 62
            if len(view) - at < head + size:
                break
            if view[at] & 0x0F in (1, 2):
                parts.append(bytes(view[at + head : at + head + size]))
            at += head + size
        del view[:at]
        return b"".join(parts)

    async def until(self, wanted: bytes) -> int:
        """Reads until `wanted` came; how many bytes."""
        tail, size = b"", 0
        while wanted not in tail:
            data = await self.some()
            size += len(data)
            tail = tail[-len(wanted) :] + data
        return size

    def type(self, keys: bytes) -> None:
        if not self.frames:
            self.writer.write(keys)
            return
        payload, opcode = (
            (b'{"type":"input","data":"' + keys.replace(b"\r", b"\\r") + b'"}', 1) if self.json else (keys, 2)
        )
        self.writer.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)

    def close(self) -> None:
        self.writer.transport.abort()


async def _handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
    writer.write(head.encode() + b"\r\n")
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in answer.split(b"\r\n")[0]:
        raise ConnectionError(answer.decode(errors="replace"))


def _upgrade(path: str, more: str = "") -> str:
    key = base64.b64encode(os.urandom(16)).decode()
    return (f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{more}")  # fmt: skip


_QUERY = "stream=1&stdin=1&stdout=1&stderr=1&detachKeys=%FF"
_LIMIT = 1 << 22


async def raw_attach(container: str) -> Reader:
    """Docker's own attach on its socket, nothing between."""
    reader, writer = await asyncio.open_unix_connection(SOCKET, limit=_LIMIT)
    head = (
        f"POST /containers/{container}/attach?{_QUERY} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    )
    await _handshake(reader, writer, head)
    return Reader(reader, writer, frames=False)


async def docker_ws(container: str) -> Reader:
    """Docker's own attach by WebSocket."""
    reader, writer = await asyncio.open_unix_connection(SOCKET, limit=_LIMIT)
    await _handshake(
        reader, writer, _upgrade(f"/containers/{container}/attach/ws?{_QUERY}", "Origin: http://localhost\r\n")
    )
    return Reader(reader, writer, frames=True)


def ours(port: int, protocol: str) -> Callable[[str], Awaitable[Reader]]:
    async def connect(_container: str) -> Reader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LIMIT)
        more = f"Authorization: Bearer bench\r\nSec-WebSocket-Protocol: {protocol}\r\n"
        await _handshake(reader, writer, _upgrade("/console?scrollback=0", more))
        return Reader(reader, writer, frames=True, json=protocol == JSON)

    return connect


# ------------------------------------------------------------------ what is measured


@dataclass
class Way:
    """One way to the console, and what came out of it."""

    name: str
    connect: Callable[[str], Awaitable[Reader]]
    pid: int | None = None
    rates: list[float] = field(default_factory=list)  # MB/s of all viewers together
    cpu: list[float] = field(default_factory=list)  # seconds of the daemon for each GB read once
    echoes: list[float] = field(default_factory=list)


def cpu_of(pid: int | None) -> float:
    """CPU seconds of a process so far."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def flood(way: Way, container: str, viewers: int, size: int) -> None:
    """One round: everybody reads one flood."""
    readers = [await way.connect(container) for _ in range(viewers)]
    await asyncio.sleep(0.3)
    before, start = cpu_of(way.pid), time.perf_counter()
    reading = [asyncio.ensure_future(reader.until(END)) for reader in readers]
    readers[0].type(f"flood {size}\r".encode())
    sizes = await asyncio.wait_for(asyncio.gather(*reading), 600)
    seconds = time.perf_counter() - start
    way.rates.append(sum(sizes) / seconds / 1e6)
    way.cpu.append((cpu_of(way.pid) - before) / (max(sizes) / 1e9))
    for reader in readers:
        reader.close()
    await asyncio.sleep(0.2)


async def echo(way: Way, container: str, count: int) -> None:
    """One key after another; each waits for its echo."""
    reader = await way.connect(container)
    await asyncio.sleep(0.3)
    try:
        while True:  # what was there before
            await asyncio.wait_for(reader.some(), 0.2)
    except TimeoutError:
        pass
    for number in range(count):
        key = b"abcdefghij"[number % 10 : number % 10 + 1]
        start = time.perf_counter()
        reader.type(key)
        await reader.some()
        way.echoes.append((time.perf_counter() - start) * 1e3)
    reader.type(b"\r")
    await reader.some()
    reader.close()


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure(options: argparse.Namespace, container: str, child: subprocess.Popen[str], port: int) -> None:
    raw = Way("raw attach", raw_attach)
    ways = [raw, Way("docker attach/ws", docker_ws), Way("console raw", ours(port, RAW), child.pid),
            Way("console JSON", ours(port, JSON), child.pid)]  # fmt: skip
    size = options.megabytes * 1_000_000
    for viewers in options.viewers:
        for way in ways:
            way.rates, way.cpu = [], []
        for _ in range(options.rounds):
            for way in ways:
                await flood(way, container, viewers, size)
        base = statistics.median(ways[1 if viewers > 1 else 0].rates)
        print(f"{viewers} viewer{'s' * (viewers > 1)}, {options.megabytes} MB, medians of {options.rounds}")
        for way in ways:
            rate, cpu = statistics.median(way.rates), statistics.median(way.cpu)
            told = f"   daemon {cpu:4.1f} CPU-s/GB" if way.pid else ""
            against = "attach/ws" if viewers > 1 else "raw attach"
            print(f"  {way.name:18} {rate:8.1f} MB/s   {rate / base:5.2f} of {against}{told}", flush=True)
    for _ in range(options.rounds):
        for way in ways:
            await echo(way, container, max(1, options.echoes // options.rounds))
    print(f"echo at an idle console, {options.echoes} keys")
    for way in ways:
        half, most = percentile(way.echoes, 0.5), percentile(way.echoes, 0.99)
        ratios = half / percentile(raw.echoes, 0.5), most / percentile(raw.echoes, 0.99)
        print(f"  {way.name:18} p50 {half:6.2f} ms ({ratios[0]:4.2f})   p99 {most:6.2f} ms ({ratios[1]:4.2f})")


# ------------------------------------------------------------------ the container and the child

SCRIPT = """echo ready; while read -r word size; do
  if [ "$word" = flood ]; then
    yes 'the quick brown fox jumps over the lazy dog 0123456789' | head -c $size; echo; echo 'THE'' END'
  else echo "got $word"; fi; done"""


def docker(*words: str) -> str:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--viewers", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--echoes", type=int, default=300)
    parser.add_argument("--image", help="an image with a shell, yes and head (one of busybox, made here)")
    options = parser.parse_args()
    words = ["create", "-it", "--network", "none", "--log-driver", "local", "--entrypoint", "/bin/sh"]
    image = options.image or ensure_busybox_image()
    daemons, dockers = (docker(*words, image, "-c", SCRIPT) for _ in range(2))
    docker("start", dockers)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, str(Path(__file__).with_name("console_rooms.py")), folder, daemons]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            port = int(child.stdout.readline())
            asyncio.run(measure(options, dockers, child, port))
        finally:
            child.kill()
            child.wait()
            docker("rm", "-f", daemons, dockers)


if __name__ == "__main__":
    main()
