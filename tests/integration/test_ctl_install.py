"""The wheel, built and installed into a clean environment, from any folder."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

from tests.test_packaging import ROOT, packages

DEADLINE = 120


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Runs it to its end; what it printed on both."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "PYTHON"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environ, text=True, timeout=DEADLINE,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode != status:
        raise AssertionError(f"{command[:6]} ended with {done.returncode}, not {status}:\n{done.stdout[-3000:]}")
    return done.stdout


@cache
def built() -> tuple[Path, Path]:
    """(folder, wheel): built once for all tests, installed into `env` in the folder, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="stellarstack-wheel-"))
    atexit.register(shutil.rmtree, folder)
    # built from a copy, so that the checkout gets no build/ and a stale one is not taken along
    source = folder / "source"
    source.mkdir()
    for name in ("stellarstack", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.rst"):
        shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "..", ".", cwd=source)
    (wheel,) = folder.glob("*.whl")
    _install(folder, wheel)
    return folder, wheel


def _install(folder: Path, wheel: Path) -> None:
    """A new environment that sees this one's libraries, but neither the checkout nor its editable install."""
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=folder)
    (packages_folder,) = (folder / "env").glob("lib/python3*/site-packages")
    run(sys.executable, "-m", "pip", "--python", "env/bin/python", "install", "-q", "--no-deps", wheel, cwd=folder)
    (packages_folder / "libraries.pth").write_text("\n".join(site.getsitepackages()) + "\n")


class TestWheel(SynchronousTestCase):
    """One wheel and one environment for all tests."""

    def setUp(self) -> None:
        self.folder, self.wheel = built()

    def python(self, code: str) -> str:
        return run(self.folder / "env/bin/python", "-c", code, cwd=self.folder).strip()

    def twistd(self, *words: str | Path, status: int) -> str:
        code = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
        return run(self.folder / "env/bin/python", "-c", code, *words, cwd=self.folder, status=status)

    def test_contents(self) -> None:
        """The wheel holds every package, the plugin and the type marker, and no tests."""
        names = set(ZipFile(self.wheel).namelist())
        for package in packages() - {"twisted.plugins"}:
            self.assertIn(f"{package.replace('.', '/')}/__init__.py", names)
        self.assertIn("twisted/plugins/stellarstack_plugin.py", names)
        self.assertIn("stellarstack/py.typed", names)
        web = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("stellarstack/api/web/**/*") if path.is_file()}
        self.assertEqual({name for name in names if name.startswith("stellarstack/api/web/")}, web)
        self.assertEqual([name for name in names if name.startswith("tests/") or "/plugins/__init__" in name], [])

    def test_installed_package(self) -> None:
        """What runs is the installed package, not the checkout."""
        found = self.python("import stellarstack; print(stellarstack.__file__)")
        self.assertTrue(found.startswith(str(self.folder / "env")), found)

    def test_stellarctl(self) -> None:
        """stellarctl is installed and answers."""
        self.assertIn("stellarctl 0.", run(self.folder / "env/bin/stellarctl", "--version", cwd=self.folder))

    def test_plugin(self) -> None:
        """twistd knows `stellarstack`, in any folder."""
        self.assertIn("-c, --config=", self.twistd("stellarstack", "--help", status=0))

    def test_bad_config(self) -> None:
        """A bad configuration ends twistd with 78 and one line, in the foreground and the daemonised form alike."""
        (self.folder / "bad.toml").write_text("[node]\nidd = 1\n")
        for words in (("-n", "--pidfile="), ("--pidfile=bad.pid",)):
            told = self.twistd(*words, "stellarstack", "-c", "bad.toml", status=78).strip()
            self.assertEqual(len(told.splitlines()), 1, told)
            self.assertIn("[node]: found the unknown key 'idd'", told)

    def test_daemonised(self) -> None:
        """`twistd stellarstack -c …` goes into the background, answers on its control socket, and ends on SIGTERM."""
        (self.folder / "node.toml").write_text(
            '[node]\nid = "node_wheel"\napi_token = "strk_node_x"\n[redis]\nurl = "redis://127.0.0.1:1"\n'
            '[server]\nhost = "127.0.0.1"\nport = 0\n[docker]\nsocket = "/var/run/docker.sock"\n'
            '[logging]\nlevel = "info"\nfile = "node.log"\n'
            '[paths]\nstate = "state"\ncontrol_socket = "node.sock"\n'
        )
        self.twistd("--pidfile=node.pid", "stellarstack", "-c", "node.toml", status=0)
        pid = int((self.folder / "node.pid").read_text())
        try:
            ctl = (self.folder / "env/bin/stellarctl", "-c", "node.toml", "node", "info")
            self.await_true(lambda: (self.folder / "node.sock").exists())
            self.assertIn("node_wheel", run(*ctl, cwd=self.folder))
            self.assertTrue((self.folder / "node.log").exists())
        finally:
            os.kill(pid, signal.SIGTERM)
            self.await_true(lambda: not (self.folder / "node.pid").exists())

    def await_true(self, met: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE
        while not met():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)
