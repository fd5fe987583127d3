"""What the console benchmarks play on: whole daemons, one with TLS, and containers of the engine beside them."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.readers import RAW, Line, console
from tests.images import ensure_busybox_image
from tests.integration.node_process import NodeProcess

LINE = "the quick brown fox jumps over the lazy dog 0123456789"
END = b"THE END"
PIECE = 500_000  # bytes that a flood writes at once

# `flood PIECES` once each time it is asked, out of a file: what makes the bytes should not be what is measured. Keys
# are echoed by the terminal.
GAME = f"""yes '{LINE}' | head -c {PIECE} >/tmp/piece; echo Done; while read -r word count; do
  if [ "$word" = flood ]; then
    while [ "$count" -gt 0 ]; do cat /tmp/piece; count=$((count-1)); done; echo; echo 'THE'' END'; fi; done"""
# `go` floods at about PACE to its end.
TORRENT = f"""echo Done; read -r word
yes '{LINE}' | head -c {PIECE} >/tmp/piece
while :; do cat /tmp/piece; PACE; done"""
QUIET = "echo Done; while read -r line; do :; done"


class BenchNode(NodeProcess):
    """A daemon with servers `game` (floods when asked), `quiet` and `torrent` (floods at `rate` MB/s once told)."""

    def __init__(self, *, tls: bool, rate: float) -> None:
        self.tls = tls
        super().__init__(extra="[console]\nviewers_per_user = 1000\nviewers_per_server = 1000\n")
        if tls:
            self._certify()
        self._rate = rate
        self._name = str(uuid.uuid4().hex[:8])

    def _certify(self) -> None:
        certificate, key = self.folder / "tls.crt", self.folder / "tls.key"
        key.touch(mode=0o600)
        key.write_bytes(_self_signed(certificate))
        with self.config.open("a") as config:
            config.write(f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n')

    def health(self) -> dict[str, Any]:
        if not self.tls:
            return super().health()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{self.port}/health", timeout=5, context=context) as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            found = json.loads(error.read())
        except OSError:
            return {}
        return found

    def play(self) -> None:
        """Starts it with its servers."""
        self.start()
        resources = {"memory": 64, "swap": 0, "cpu": float(os.cpu_count() or 1), "disk": 64, "pids": 32}
        pace = f"busybox usleep {int(PIECE / self._rate)}" if self._rate else ":"
        for name, script in (("game", GAME), ("quiet", QUIET), ("torrent", TORRENT.replace("PACE", pace))):
            self.create(name, script, resources=resources)

    def view(self, server: str, protocol: str = RAW) -> Line:
        """A viewer that may type, from now on; it gets no figures, which would come among the output."""
        now = time.time()
        claims = {
            "iss": "stellarstack", "sub": "bench", "aud": self.node_id, "iat": now, "exp": now + 300,
            "jti": uuid.uuid4().hex, "serverId": server, "permissions": ["console.read", "console.write"],
        }  # fmt: skip
        token = jwt.encode(claims, (self.state / "jwt_secret").read_text().strip(), "HS256")
        return console(self.port, token, protocol=protocol, tls=self.tls)

    def cpu(self) -> float:
        """CPU seconds of the daemon so far."""
        assert self.process is not None
        return time.clock_gettime(~self.process.pid << 3 | 2)  # clock_getcpuclockid(3); /proc counts ticks of 10 ms

    @contextlib.contextmanager
    def largest(self) -> Iterator[list[int]]:
        """Inside, the daemon's memory is looked at every 10 ms; the largest is in the list afterwards."""
        found, over = [self.rss()], threading.Event()

        def look() -> None:
            while not over.wait(0.01):
                found[0] = max(found[0], self.rss())

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        try:
            yield found
        finally:
            over.set()
            looking.join()


def _self_signed(certificate: Path) -> bytes:
    """Writes a certificate for localhost; answers its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@contextlib.contextmanager
def container(script: str) -> Iterator[str]:
    """A container that is none of a daemon's, with the script under a terminal; its id."""
    words = ["docker", "run", "-dit", "--network", "none", "--log-driver", "local", ensure_busybox_image()]
    made = subprocess.run([*words, "/bin/sh", "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield made
    finally:
        subprocess.run(["docker", "rm", "-f", made], check=False, capture_output=True)
