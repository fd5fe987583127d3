"""`stellarctl redis-acl`: the Redis user that lets a node do its work and nothing else (PROTOCOL 3, R01)."""

from __future__ import annotations


def acl_rule(node_id: str, *, token: str = "TOKEN", sentinel: bool = False) -> str:  # noqa: S107 (a placeholder)
    """The line for Redis 7 or newer, or Valkey: reads its own commands, writes its own events, runs no scripts."""
    node = f"stellar:nodes:{node_id}"
    parts = [
        f"user {node_id} on >{token} resetkeys resetchannels -@all",
        "+@connection +ping" + (" +wait +role" if sentinel else ""),
        f"(+subscribe +unsubscribe &{node}:commands)",
        f"(+publish &{node}:events &{node}:heartbeat &stellar:events:global &stellar:servers:*)",
        f"(+xreadgroup +xack +xdel +xautoclaim +xgroup ~{node}:commands:queue)",
        f"(+xadd +xrevrange +xlen ~{node}:events:log)",
    ]
    return " ".join(parts)
