"""daemon.toml: every key, its default and its bounds, read once and strictly into frozen dataclasses (PROTOCOL 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

STATE_LOCK = "daemon.lock"


class Secret:
    """A string that no log, error or repr shows. `reveal` where it is used."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def _key(default: Any = MISSING, *, low: float | None = None, high: float | None = None,
         one_of: tuple[str, ...] = (), matches: str = "", bytes_min: int = 0,
         one_line: bool = False) -> Any:  # fmt: skip
    metadata = {
        "low": low, "high": high, "one_of": one_of, "matches": matches, "bytes_min": bytes_min, "one_line": one_line,
    }  # fmt: skip
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    id: str | None = _key(None, matches=r"node_[A-Za-z0-9]+")
    api_token: Secret | None = _key(None, one_line=True)


@dataclass(frozen=True, slots=True)
class RedisConfig:
    url: Secret = _key(Secret("redis://127.0.0.1:6379"))
    require_tls: bool = _key(False)
    events_log_maxlen: int = _key(1_000_000, low=1000, high=100_000_000)
    embedded_socket: Path | None = _key(None)
    embedded_port: int | None = _key(None, low=1, high=65535)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    host: str = _key("127.0.0.1")
    port: int = _key(8080, low=0, high=65535)
    allowed_origins: tuple[str, ...] = _key(())
    frame_ancestors: tuple[str, ...] = _key(())


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    username: str = _key()
    password: Secret = _key()


@dataclass(frozen=True, slots=True)
class DockerConfig:
    socket: Path = _key(Path("/var/run/docker.sock"))
    uid: int = _key(988, low=1, high=2**31)
    gid: int = _key(988, low=1, high=2**31)
    uid_per_server: bool = _key(False)
    network_pool: IPv4Network = _key(IPv4Network("10.213.0.0/16"))
    allow_unlimited: bool = _key(False)
    memory_margin: str = _key("none", one_of=("none", "steps"))
    read_only_root: bool = _key(True)
    tmpfs_size: int = _key(100, low=1, high=65536)
    seccomp_profile: Path | None = _key(None)
    log_size: int = _key(16, low=1, high=1024)
    request_timeout: float = _key(30.0, low=1, high=600)
    pull_timeout: float = _key(1800.0, low=1, high=86400)
    pull_policy: str = _key("missing", one_of=("missing", "always", "never"))
    prune_after: float = _key(168.0, low=0, high=87600)
    disk_over: str = _key("stop", one_of=("alert", "stop"))
    disk_check_interval: float = _key(30.0, low=1, high=3600)
    registries: Mapping[str, RegistryConfig] = _key({})


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    level: str = _key("info", one_of=("debug", "info", "warn", "error"))
    file: Path | None = _key(None)


@dataclass(frozen=True, slots=True)
class CommandKeyConfig:
    algorithm: str = _key(one_of=("ed25519", "hmac-sha256"))
    key: Secret = _key(bytes_min=32)


@dataclass(frozen=True, slots=True)
class AuthConfig:
    jwt_secret: Secret | None = _key(None, bytes_min=32)
    jwt_previous_secret: Secret | None = _key(None, bytes_min=32)
    jwt_public_key: str | None = _key(None)
    jwt_previous_public_key: str | None = _key(None)
    jwt_algorithm: str = _key("HS256", one_of=("HS256", "EdDSA", "ES256", "RS256"))
    single_use_tokens: bool = _key(False)
    require_signed_commands: bool = _key(False)
    command_keys: Mapping[str, CommandKeyConfig] = _key({})


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Without certificate and key the listener speaks plain; `ca` also verifies Redis and the control plane."""

    certificate: Path | None = _key(None)
    key: Path | None = _key(None)
    ca: Path | None = _key(None)
    client_ca: Path | None = _key(None)


@dataclass(frozen=True, slots=True)
class PathsConfig:
    state: Path = _key(Path("/var/lib/stellarstack"))
    servers: Path | None = _key(None)
    backups: Path | None = _key(None)
    blueprints: Path | None = _key(None)
    console: Path | None = _key(None)
    database: Path | None = _key(None)
    control_socket: Path = _key(Path("/run/stellarstack/daemon.sock"))


@dataclass(frozen=True, slots=True)
class HeartbeatConfig:
    interval: float = _key(30.0, low=0.1, high=3600)
    unhealthy_after: int = _key(3, low=1, high=1000)
    offline_after: int = _key(5, low=2, high=1000)
    connect_deadline: float = _key(60.0, low=1, high=3600)


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    parallel_commands: int = _key(16, low=1, high=1024)
    lane_length: int = _key(256, low=1, high=100_000)
    outbox_rows: int = _key(1_000_000, low=1000, high=100_000_000)
    outbox_bytes: int = _key(2**30, low=2**20, high=2**40)
    stop_deadline: float = _key(8.0, low=1, high=60)


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    scrollback: int = _key(16 * 2**20, low=65536, high=2**34)
    viewer_buffer: int = _key(4 * 2**20, low=65536, high=2**30)
    viewers_per_server: int = _key(200, low=1, high=10_000)
    viewers_per_user: int = _key(100, low=1, high=10_000)
    connections: int = _key(2000, low=1, high=100_000)
    waiting: int = _key(256, low=1, high=100_000)
    auth_deadline: float = _key(10.0, low=0.1, high=300)
    ping_interval: float = _key(30.0, low=1, high=3600)
    stall_deadline: float = _key(60.0, low=1, high=3600)
    input_bytes_per_second: int = _key(65536, low=1, high=2**30)
    input_messages_per_second: int = _key(100, low=1, high=100_000)
    flood_bytes_per_second: int = _key(2**20, low=0, high=2**40)
    flood_viewer_bytes_per_second: int = _key(0, low=0, high=2**40)
    publish_logs: bool = _key(True)
    audit_commands: str = _key("full", one_of=("full", "redacted", "off"))


@dataclass(frozen=True, slots=True)
class SshUserConfig:
    keys: tuple[str, ...] = _key()
    servers: tuple[str, ...] = _key()
    permissions: tuple[str, ...] = _key(("console.read", "console.write"))


@dataclass(frozen=True, slots=True)
class SshConfig:
    enabled: bool = _key(False)
    host: str = _key("0.0.0.0")
    port: int = _key(2022, low=0, high=65535)
    host_key: Path | None = _key(None)
    login_grace: float = _key(20.0, low=1, high=300)
    unauthenticated: int = _key(64, low=1, high=10_000)
    unauthenticated_per_address: int = _key(10, low=1, high=10_000)
    connections_per_second: float = _key(5.0, low=0.1, high=1000)
    key_session: float = _key(86400.0, low=60, high=31_536_000)
    users: Mapping[str, SshUserConfig] = _key({})


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    interval: float = _key(1.0, low=0.1, high=3600)
    token: Secret | None = _key(None, bytes_min=32, one_line=True)


@dataclass(frozen=True, slots=True)
class ControlPlaneConfig:
    url: str | None = _key(None)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of daemon.toml; a section that is absent has its defaults."""

    node: NodeConfig = NodeConfig()
    redis: RedisConfig = RedisConfig()
    server: ServerConfig = ServerConfig()
    docker: DockerConfig = DockerConfig()
    logging: LoggingConfig = LoggingConfig()
    auth: AuthConfig = AuthConfig()
    tls: TlsConfig = TlsConfig()
    paths: PathsConfig = PathsConfig()
    heartbeat: HeartbeatConfig = HeartbeatConfig()
    limits: LimitsConfig = LimitsConfig()
    console: ConsoleConfig = ConsoleConfig()
    ssh: SshConfig = SshConfig()
    metrics: MetricsConfig = MetricsConfig()
    control_plane: ControlPlaneConfig = ControlPlaneConfig()

    @property
    def servers_path(self) -> Path:
        return self.paths.servers or self.paths.state / "servers"

    @property
    def blueprints_path(self) -> Path:
        return self.paths.blueprints or self.paths.state / "blueprints"

    @property
    def console_path(self) -> Path:
        return self.paths.console or self.paths.state / "console"

    @property
    def database_path(self) -> Path:
        return self.paths.database or self.paths.state / "daemon.sqlite"

    @property
    def state_lock(self) -> Path:
        """The running daemon holds an flock on it; its process id stands in it."""
        return self.paths.state / STATE_LOCK

    @property
    def ssh_host_key(self) -> Path:
        return self.ssh.host_key or self.paths.state / "ssh_host_ed25519_key"

    @property
    def embedded_socket(self) -> Path:
        return self.redis.embedded_socket or self.paths.state / "redis.sock"
