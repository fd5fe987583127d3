"""Memory beyond what the game is told."""

from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.resources import container_memory

MB = 1 << 20


class MemoryTests(SynchronousTestCase):
    def test_steps(self) -> None:
        """Small servers get relatively more on top, large ones less; no limit stays none."""
        self.assertEqual(container_memory(1000), 1150 * MB)
        self.assertEqual(container_memory(4000), 4400 * MB)
        self.assertEqual(container_memory(10_000), 10_500 * MB)
        self.assertEqual(container_memory(0), 0)

    def test_fixed(self) -> None:
        """A configured overhead takes the place of the steps."""
        self.assertEqual(container_memory(512, 0.0), 512 * MB)
        self.assertEqual(container_memory(1000, 0.25), 1250 * MB)
