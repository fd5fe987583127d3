"""K19: whatever is printed, cut, resumed, slow or killed: each viewer gets exactly the bytes or an explicit gap."""

from __future__ import annotations

from tests.console_model import run_model
from tests.test_console import ConsoleCase


class ModelTests(ConsoleCase):
    def test_a_few_walks(self) -> None:
        """The short profile; the integration part walks on for thousands of steps."""
        run_model(self, examples=5, steps=25)
