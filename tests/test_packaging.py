"""What is shipped: the package list, the plugin, and that both ends of setup.cfg agree with the sources."""

from __future__ import annotations

import json
import re
import stat
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.config import Config
from stellarstack.core.blueprint import parse_blueprint

ROOT = Path(__file__).parent.parent


def packages() -> set[str]:
    parsed = ConfigParser()
    parsed.read(ROOT / "setup.cfg")
    return set(parsed["options"]["packages"].split())


class TestSetup(SynchronousTestCase):
    """setup.cfg."""

    def test_packages(self) -> None:
        """Every package of the sources is listed, the plugin's folder too, and no other."""
        found = {".".join(path.parent.relative_to(ROOT).parts) for path in ROOT.glob("stellarstack/**/__init__.py")}
        self.assertEqual(packages(), found | {"twisted.plugins"})

    def test_plugin_folder(self) -> None:
        """twisted/plugins holds the plugin and is no package: an __init__.py would hide Twisted's own."""
        self.assertEqual([path.name for path in ROOT.glob("twisted/**/*.py")], ["stellarstack_plugin.py"])

    def test_floors(self) -> None:
        """H03, A01, J04: the libraries whose older versions have known holes have their floors."""
        text = (ROOT / "setup.cfg").read_text()
        for floor in (r"twisted\[tls\] >= 26\.10", r"autobahn >= 26\.7\.1", r"pyjwt\[crypto\] >= 2\.15\.1"):
            self.assertTrue(re.search(rf"^\s+{floor}$", text, re.MULTILINE), floor)

    def test_every_requirement_has_a_reason(self) -> None:
        """Above each requirement of the daemon stands why it is needed."""
        block = (ROOT / "setup.cfg").read_text().partition("install_requires =\n")[2].partition("\n\n")[0]
        lines = [line.strip() for line in block.splitlines()]
        for above, line in zip(["", *lines], lines, strict=False):
            self.assertTrue(line.startswith("#") or above.startswith("#"), line)


class TestShippedFiles(SynchronousTestCase):
    """etc/ and script/."""

    def test_blueprint(self) -> None:
        """The demo's blueprint can be used as it is."""
        document = json.loads((ROOT / "etc" / "blueprints" / "openttd.json").read_text())
        self.assertEqual(parse_blueprint(document).id, "openttd")

    def test_unit(self) -> None:
        """The unit lets game servers live, gives the stop its time, and does not restart over a bad configuration."""
        text = (ROOT / "etc" / "stellarstack.service").read_text()
        lines = {line for line in text.splitlines() if "=" in line and not line.startswith("#")}
        wanted = {
            "Type=notify",
            "WatchdogSec=30",
            "KillMode=mixed",
            "Restart=on-failure",
            "RestartPreventExitStatus=78",
        }
        self.assertEqual(wanted - lines, set())

    def test_unit_fits_the_defaults(self) -> None:
        """What daemon.toml writes by default, or as its examples, lies where the unit may write; the stop has time."""
        text = (ROOT / "etc" / "stellarstack.service").read_text()
        unit = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        folders = {"StateDirectory": "/var/lib/", "RuntimeDirectory": "/run/", "LogsDirectory": "/var/log/"}
        writable = [Path(base + unit[key]) for key, base in folders.items()]
        paths, limits = Config().paths, Config().limits
        example = re.search(r'(?m)^\[logging\][^\[]*^#file = "(.+)"', (ROOT / "etc" / "daemon.toml").read_text())
        assert example is not None
        for path in (paths.state, paths.control_socket.parent, Path(example[1]).parent):
            self.assertIn(path, writable)
        self.assertEqual(unit["ProtectSystem"], "strict")
        self.assertGreater(int(unit["TimeoutStopSec"]), limits.stop_deadline + 2)

    def test_scripts(self) -> None:
        """What people call can be called."""
        for name in (
            "script/bootstrap",
            "script/server",
            "script/test",
            "script/docker-up",
            "demo/build-image",
            ".ci/run",
        ):
            self.assertTrue((ROOT / name).stat().st_mode & stat.S_IXUSR, name)
