"""Images that tests make themselves, without a registry."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

BUSYBOX = "stellarstack-test/busybox:latest"
_APPLETS = (
    "sh",
    "cat",
    "echo",
    "sleep",
    "stty",
    "kill",
    "yes",
    "head",
    "dd",
    "nc",
    "ls",
    "id",
    "env",
    "printf",
    "true",
)


def ensure_busybox_image() -> str:
    """The name of an image of a few megabytes with a shell and busybox's programs; made where it is not there yet.

    It needs the static `/bin/busybox` (Debian's busybox-static) and the `docker` command. Blocks for about a second.
    """
    if subprocess.run(["docker", "image", "inspect", BUSYBOX], capture_output=True, check=False).returncode == 0:
        return BUSYBOX
    changes = ["--change", "ENV PATH=/bin", "--change", 'CMD ["/bin/sh"]', "--change", "WORKDIR /"]
    made = subprocess.run(["docker", "import", *changes, "-", BUSYBOX], input=_root(), capture_output=True, check=False)
    if made.returncode != 0:
        raise RuntimeError(f"docker import failed: {made.stderr.decode(errors='replace').strip()}")
    return BUSYBOX


def _root() -> bytes:
    """A tar of the image's root: busybox, its links, a world-writable /tmp and /data."""
    busybox = Path("/bin/busybox").read_bytes()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("dev", 0o755),
                             ("tmp", 0o1777), ("data", 0o777)):  # fmt: skip
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        binary = tarfile.TarInfo("bin/busybox")
        binary.mode, binary.size = 0o755, len(busybox)
        tar.addfile(binary, io.BytesIO(busybox))
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return out.getvalue()
