"""The fence around a node in Redis: an ACL user that reads its own commands and writes its own events. No I/O."""

from __future__ import annotations

import hashlib
import re

from stellarstack.core.messages import commands_channel, commands_queue, events_log
from stellarstack.errors import ConfigError

_NODE = re.compile(r"node_[A-Za-z0-9]+")


def redis_acl(node_id: str, api_token: str, *, sentinel: bool = False) -> str:
    """One line for Redis' ACL file, for Redis 7 or newer (selectors). The token stands in it as its SHA-256 only.

    `sentinel` adds WAIT. MULTI and EXEC let events go out in batches. Raises ConfigError for a bad node id or token.
    """
    if not _NODE.fullmatch(node_id):
        raise ConfigError("a node id is node_ and letters or digits")
    if not api_token:
        raise ConfigError("the node has no api_token")
    return f"user {node_id} {' '.join(acl_rules(node_id, api_token, sentinel=sentinel))}"


def acl_rules(node_id: str, api_token: str, *, sentinel: bool = False) -> list[str]:
    """The rules alone, one string each, as ACL SETUSER takes them."""
    node = f"stellar:nodes:{node_id}"
    digest = hashlib.sha256(api_token.encode()).hexdigest()
    return [
        "reset", "on", f"#{digest}", "resetkeys", "resetchannels",
        # CLIENT KILL and the like are in @connection, and would reach other nodes
        "-@all", "+@connection", "-@dangerous", "+ping", "+multi", "+exec", *(["+wait"] if sentinel else []),
        f"(+subscribe +unsubscribe &{commands_channel(node_id)})",
        f"(+publish &{node}:events &{node}:heartbeat &stellar:events:global &stellar:servers:*)",
        f"(+xreadgroup +xack +xdel +xautoclaim +xgroup ~{commands_queue(node_id)})",
        f"(+xadd +xrevrange +xlen ~{events_log(node_id)})",
    ]  # fmt: skip
