"""A Linux kernel with project quotas, for machines whose own has none: User Mode Linux, run as an ordinary process.

Debian's package `user-mode-linux` brings it. Its root is this machine's file system, so it runs this checkout with this
Python; its block devices are files. Nothing of it outlives the call.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
TIMEOUT = 120.0  # seconds
MODULES = ("quota_tree", "quota_v2")

_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
{insmod}
cd {folder}
{command} >{folder}/out 2>&1
echo $? >{folder}/status
sync
echo o >/proc/sysrq-trigger
sleep 10
"""


class NoQuotaKernel(Exception):
    """There is no User Mode Linux on this machine, or none that can run here."""


def find_kernel() -> tuple[Path, Path]:
    """The kernel and the folder of its modules. `LINUX_UML` names a root below which the package was unpacked."""
    root = Path(os.environ.get("LINUX_UML", "/"))
    kernel = root / "usr/bin/linux.uml"
    if not kernel.exists():
        raise NoQuotaKernel("linux.uml is missing: apt-get install user-mode-linux")
    return kernel, root / "usr/lib/uml/modules"


def run_inside(words: list[str], image: Path) -> tuple[int, str]:
    """Runs a command as root under that kernel, with `image` as /dev/ubdb; answers its exit status and output."""
    kernel, modules = find_kernel()
    folder = Path(tempfile.mkdtemp(prefix="stellar-uml-"))
    folder.chmod(0o755)  # the tenant's user passes through it
    try:
        found = [path for name in MODULES for path in modules.rglob(f"{name}.ko")]
        insmod = "\n".join(f"/bin/busybox insmod {path}" for path in found)
        environ = [f"PATH={os.environ['PATH']}", f"PYTHONPATH={CHECKOUT}", f"TMPDIR={folder}", "HOME=/root"]
        command = shlex.join(["/usr/bin/env", "-i", *environ, *words])
        init = folder / "init"
        init.write_text(_INIT.format(insmod=insmod, folder=folder, command=command))
        init.chmod(0o755)
        machine = subprocess.run(
            [str(kernel), "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw", f"ubdb={image}",
             f"init={init}", "con=null", "con0=null,fd:1"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False,
            env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        if "set fp regs failed" in machine.stdout:  # it has no room for the registers of a CPU with AMX
            raise NoQuotaKernel("User Mode Linux does not run on this CPU")
        if not (folder / "status").exists():
            raise AssertionError(f"the kernel died: {machine.stdout[-2000:]} {machine.stderr[-2000:]}")
        return int((folder / "status").read_text()), (folder / "out").read_text(errors="replace")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def python() -> str:
    return sys.executable
