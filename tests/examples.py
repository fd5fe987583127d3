"""How many examples Hypothesis makes: few in the unit part, which has seconds, and many in the integration part.

HYPOTHESIS_TIMES multiplies them; script/run_tests.py sets it.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import settings

TIMES = int(os.environ.get("HYPOTHESIS_TIMES", "1"))


def examples(few: int, **how: Any) -> settings:
    """`few`, or as many times more as are asked for. Nothing is kept on disk from one run to the next."""
    return settings(max_examples=few * TIMES, deadline=None, database=None, **how)
