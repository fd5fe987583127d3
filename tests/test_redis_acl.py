"""The text of the fence; that it holds is shown against a real Redis in tests/integration/test_redis_login.py."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.redis_acl import redis_acl
from stellarstack.errors import ConfigError


class RedisAclTests(SynchronousTestCase):
    """R01."""

    def test_r01_line(self) -> None:
        """R01: one line for one user, without the token in clear, without scripts, and with WAIT for Sentinel only."""
        line = redis_acl("node_a1", "strk_node_secret")
        self.assertTrue(line.startswith("user node_a1 reset on #"))
        self.assertNotIn("secret", line)
        self.assertNotIn("\n", line)
        self.assertIn("-@all", line)
        self.assertNotIn("+eval", line)
        self.assertNotIn("+wait", line)
        self.assertIn("+wait", redis_acl("node_a1", "strk_node_secret", sentinel=True))

    def test_refused(self) -> None:
        """A node id that could smuggle in rules, and an empty token, are refused."""
        for node, token in (("node_a on", "t"), ("node_a\nuser b on nopass", "t"), ("", "t"), ("node_a", "")):
            with self.assertRaises(ConfigError):
                redis_acl(node, token)
