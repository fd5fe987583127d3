"""The taxonomy of what can go wrong, each kind with the code that stands on the wire (PROTOCOL 4). Performs no I/O."""

from __future__ import annotations

from typing import ClassVar


class StellarError(Exception):
    """The root of all expected errors. `str(error)` is one clear line for a person; `code` is for programs.

    `retry` says whether the same request can succeed later without a change.
    """

    code: ClassVar[str] = "internal"
    retry: ClassVar[bool] = False


class ConfigError(StellarError):
    """daemon.toml cannot be used. The text names file, section, key, what was found and what is allowed."""

    code = "config_invalid"


class Unauthorized(StellarError):
    """No valid proof of who speaks."""

    code = "unauthorized"


class TokenExpired(Unauthorized):
    """A good console token, but past its `exp`."""

    code = "token_expired"


class Forbidden(StellarError):
    """Known, but not allowed."""

    code = "forbidden"


class InvalidCommand(StellarError):
    """An envelope that is no command, or an id used again for another command."""

    code = "invalid_command"


class InvalidPayload(StellarError):
    """A known command whose payload does not fit it. The text names the key."""

    code = "invalid_payload"


class UnknownCommand(StellarError):
    """A command type that this daemon does not offer."""

    code = "unknown_command"


class Expired(StellarError):
    """`expiresAt` had passed before the command was taken from its lane."""

    code = "expired"


class Interrupted(StellarError):
    """The daemon died while the command ran, and it could not be finished safely."""

    code = "interrupted"
    retry = True


class Cancelled(StellarError):
    """Overtaken by server.kill, server.delete or a cancel."""

    code = "cancelled"


class ServerNotFound(StellarError):
    """No server of that id on this node."""

    code = "server_not_found"


class ServerExists(StellarError):
    """A server of that id is on this node already."""

    code = "server_exists"


class InvalidState(StellarError):
    """The server's or the node's state refuses this. The text tells the story."""

    code = "invalid_state"
    retry = True


class Draining(StellarError):
    """The node is being emptied and starts nothing new."""

    code = "draining"


class ImageNotFound(StellarError):
    """The engine has no such image."""

    code = "image_not_found"


class ImagePullFailed(StellarError):
    """The image is not here and could not be fetched."""

    code = "image_pull_failed"
    retry = True


class PortInUse(StellarError):
    """A wanted port has a holder, whom the text names."""

    code = "port_in_use"


class InsufficientResources(StellarError):
    """The node has no room for this."""

    code = "insufficient_resources"


class PathForbidden(StellarError):
    """A path that leads out of the server's root."""

    code = "path_forbidden"


class TooLarge(StellarError):
    """Over a size limit, which the text names."""

    code = "too_large"


class InstallFailed(StellarError):
    """The install script did not end with 0."""

    code = "install_failed"


class BlueprintInvalid(StellarError):
    """A blueprint, egg or config file of a server that cannot be used."""

    code = "config_invalid"


class DockerUnavailable(StellarError):
    """The engine does not answer, or answers with a fault of its own."""

    code = "docker_unavailable"
    retry = True


class ContainerGone(DockerUnavailable):
    """The engine knows no such container (any more)."""

    retry = False


class EngineConflict(DockerUnavailable):
    """The engine refuses: the thing exists already, or is in a state that does not fit (HTTP 409)."""

    retry = False


class EngineRefused(DockerUnavailable):
    """The engine finds the request itself wrong (HTTP 4xx): asking again the same way does not help."""

    retry = False


class EngineTooOld(DockerUnavailable):
    """The engine speaks no API version that this daemon can use (node state ERROR)."""

    retry = False


class TimedOut(StellarError):
    """A wait came to its end."""

    code = "timeout"
    retry = True


class RedisUnavailable(StellarError):
    """Redis does not answer or the connection broke."""

    code = "internal"
    retry = True


class RedisRefused(RedisUnavailable):
    """Redis refuses our credentials: no attempt helps until somebody mends them (node state ERROR)."""

    retry = False


class StoreFailed(StellarError):
    """The database could not commit (disk full, say). Nothing of the request was kept."""

    code = "internal"
    retry = True
