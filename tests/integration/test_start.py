"""What people see of a start. One that fails: one line, its status, and not a word of the node to anybody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.node_process import CHECKOUT, NodeProcess
from tests.ports import free_port
from tests.redis_server import RedisServer


class HealthyStartTests(SynchronousTestCase):
    def test_quiet(self) -> None:
        """A healthy start with the embedded Redis warns of nothing, and Twisted does not announce its parts."""
        node = NodeProcess()
        self.addCleanup(node.close)
        text = node.config.read_text().replace('level = "debug"', 'level = "info"')
        node.config.write_text(text + '[ssh]\nenabled = true\nhost = "127.0.0.1"\nport = 0\n')
        node.start()
        lines = [line for line in node.log.splitlines() if "#warn] runc" not in line]  # this machine's own fault
        self.assertEqual([line for line in lines if "#warn" in line or "#error" in line], [])
        self.assertEqual([line for line in lines if "actory" in line or "tarting on" in line], [])
        self.assertEqual(node.term(), 0)
        self.assertEqual([line for line in node.log.splitlines() if "actory" in line or "Closed" in line], [])


class RefusedStartTests(SynchronousTestCase):
    def setUp(self) -> None:
        redis = RedisServer()
        self.addCleanup(redis.stop)
        self.node = NodeProcess(redis.start())
        self.addCleanup(self.node.close)

    def refused(self, *how: str) -> list[str]:
        """Starts twistd as a person would, who watches its terminal; answers what is seen there."""
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *how]
        command += ["stellarstack", "-c", str(self.node.config)]
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=30,
            cwd=self.node.folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )  # fmt: skip
        self.assertEqual(ended.returncode, 78, ended.stdout)
        return ended.stdout.splitlines()

    def assert_silent(self) -> None:
        """Nothing of the node is in Redis."""
        self.assertEqual(self.node.ask("KEYS", "*"), [])

    def test_taken_port(self) -> None:
        """A taken port is the last line on the terminal, also where twistd would leave it; nothing was announced."""
        told = f"stellarstack: [server] cannot listen on 127.0.0.1, port {self.node.port}: Address already in use"
        pidfile = f"--pidfile={self.node.folder}/twistd.pid"
        with socket.create_server(("127.0.0.1", self.node.port)):
            for how in (("-n", pidfile), (pidfile, f"--logfile={self.node.folder}/daemon.log")):
                self.assertEqual(self.refused(*how)[-1], told)
                self.assert_silent()

    def test_taken_control_socket(self) -> None:
        """So is a control socket that somebody else listens on."""
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(f"{self.node.folder}/daemon.sock")
            other.listen()
            self.assertIn("another daemon listens there", self.refused("-n", "--pidfile=")[-1])
        self.assert_silent()

    def test_ssh(self) -> None:
        """So is an SSH port that is taken, a key that is none and a host key that others may read."""
        text = self.node.config.read_text()
        port, how = free_port(), ("-n", "--pidfile=")
        self.node.config.write_text(text + f'[ssh]\nenabled = true\nhost = "127.0.0.1"\nport = {port}\n')
        with socket.create_server(("127.0.0.1", port)):
            told = f"stellarstack: [ssh] cannot listen on 127.0.0.1, port {port}: Address already in use"
            self.assertEqual(self.refused(*how)[-1], told)
        key = self.node.state / "ssh_host_ed25519_key"
        key.chmod(0o644)
        self.assertEqual(self.refused(*how)[-1], f"stellarstack: {key} has mode 0644, allowed is 0600")
        key.chmod(0o600)
        with self.node.config.open("a") as config:
            config.write('[ssh.users.eve]\nkeys = ["ssh-rsa AAAA"]\nservers = ["*"]\n')
        self.assertIn("[ssh.users.eve] keys: found a key that cannot be used", self.refused(*how)[-1])
        self.assert_silent()

    def test_broken_seccomp_profile(self) -> None:
        """A file of daemon.toml that cannot be used is told in the same way."""
        text = self.node.config.read_text().replace("[docker]", f'[docker]\nseccomp_profile = "{self.node.folder}"')
        self.node.config.write_text(text)
        lines = self.refused("-n", "--pidfile=")
        self.assertEqual(
            lines, [f"stellarstack: [docker] seccomp_profile: {self.node.folder} cannot be read: Is a directory"]
        )
