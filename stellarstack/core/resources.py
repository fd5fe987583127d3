"""How much of the node a server gets beyond what its game is told. Performs no I/O."""

from __future__ import annotations

# Docker makes no container with less.
MEMORY_FLOOR_MB = 6
# A runtime (a JVM, say) needs memory beside the heap that it is told to use: up to so many MB, so much more.
MEMORY_STEPS: tuple[tuple[float, float], ...] = ((2048, 0.15), (4096, 0.10), (float("inf"), 0.05))
_MB = 1 << 20


def container_memory(memory_mb: int, overhead: float | None = None) -> int:
    """Bytes of a container's hard limit, 0 where there is none. `overhead` as a fraction; None: by MEMORY_STEPS."""
    if overhead is None:
        overhead = next(more for up_to, more in MEMORY_STEPS if memory_mb <= up_to)
    return round(memory_mb * (1 + overhead)) * _MB
