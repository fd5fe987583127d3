"""K19: the console's model, for as many steps as `STELLAR_MODEL_STEPS` says."""

from __future__ import annotations

import os

from tests.console_model import run_model
from tests.test_console import ConsoleCase

STEPS = int(os.environ.get("STELLAR_MODEL_STEPS", "3000"))
STEPS_EACH = 50


class ModelTests(ConsoleCase):
    def test_long_walks(self) -> None:
        """K19: thousands of steps; each viewer gets exactly the bytes or an explicit gap, JSON is its text."""
        run_model(self, examples=max(1, STEPS // STEPS_EACH), steps=STEPS_EACH)
