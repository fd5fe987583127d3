"""The port of `[ssh]`: lets connections in, so many and so fast, looks after them, and ends them at the stop."""

from __future__ import annotations

from typing import Any

from twisted.conch.ssh.keys import Key
from twisted.internet.defer import maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from stellarstack.config import SshConfig
from stellarstack.core.claims import Claims
from stellarstack.core.console_session import Close, CloseCode
from stellarstack.core.throttle import Throttle, ThrottleLimits
from stellarstack.core.token_end import TokenEnd
from stellarstack.errors import ConfigError
from stellarstack.interfaces import TokenVerifier
from stellarstack.sockets import try_port
from stellarstack.ssh.keybook import KeySource
from stellarstack.ssh.login import Login
from stellarstack.ssh.session import LAST_WORDS, LOGIN_OVER, Hall, ShellSession
from stellarstack.ssh.terminal import Terminal, Terminals
from stellarstack.ssh.turns import Turns
from stellarstack.ssh.wire import SshWire
from stellarstack.tasks import sleep

_BACKLOG = 128
_EXCHANGE_DEADLINE = 30.0  # seconds for a key exchange of a connection that has logged in
_STOP_STEP, _STOP_STEPS = 0.05, 10  # an ordered stop waits half a second for the viewers


class SshListener(ServerFactory):
    """`start` once the consoles are open; `stop` before they are. ConfigError: the host key is none."""

    noisy = False
    _log = Logger()

    def __init__(
        self, *, config: SshConfig, hall: Hall, tokens: TokenVerifier, keys: KeySource, host_key: bytes, reactor: Any
    ) -> None:
        self._config = config
        self._hall = hall
        self._reactor = reactor
        self._throttle = Throttle(
            ThrottleLimits(
                waiting=config.unauthenticated, waiting_of_one=config.unauthenticated_per_address,
                rate=config.connections_per_second,
            )
        )  # fmt: skip
        key = Key.fromString(host_key)
        self.privateKeys = {b"ssh-ed25519": key}  # Conch looks here
        self.publicKeys = {b"ssh-ed25519": key.public()}
        self.tokens = tokens
        self.keys = keys
        self.clock = hall.clock
        self.tasks = hall.tasks
        self._wires: dict[SshWire, Terminals | None] = {}
        self._listening: IListeningPort | None = None
        self._ticks = LoopingCall(self._tick)
        self._ticks.clock = hall.clock
        self._turns = Turns(hall.clock)
        self._stopping = False

    # ---------------------------------------------------------------- the port

    def probe(self) -> None:
        """ConfigError: the port cannot be bound now. Leaves it free: whoever takes it after this is met by `start`."""
        try:
            try_port(self._config.host, self._config.port)
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> ConfigError:
        reason = getattr(error, "strerror", None) or error
        return ConfigError(f"[ssh] cannot listen on {self._config.host}, port {self._config.port}: {reason}")

    async def start(self) -> int:
        """Answers the port that is bound. ConfigError: it cannot be."""
        host, port = self._config.host, self._config.port
        try:
            listening = self._reactor.listenTCP(port, self, backlog=_BACKLOG, interface=host)
        except CannotListenError as error:
            raise self._unusable(error.socketError) from error
        self._listening = listening
        self.look_after()
        bound: int = listening.getHost().port
        self._log.info("the SSH console is on {host}, port {port}", host=host, port=bound)
        return bound

    def look_after(self) -> None:
        """Begins to look after the connections: signs of life, those that take nothing."""
        console = self._hall.config
        self._ticks.start(max(0.05, min(5.0, console.ping_interval / 2, console.stall_deadline / 4)), now=False)

    def close_sessions(self) -> None:
        """No more connections; every session is told that the daemon stops."""
        self._stopping = True
        for wire, terminals in list(self._wires.items()):
            if terminals is None:
                wire.sendDisconnect(11, b"the daemon stops")
            else:
                for session in _sessions(terminals):
                    session.close(CloseCode.STOPPING, "the daemon stops")

    async def stop(self) -> None:
        """Ends what there is, politely for half a second."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        if self._ticks.running:
            self._ticks.stop()
        self.close_sessions()
        for _ in range(_STOP_STEPS):
            if not self._wires:
                return
            await sleep(self.clock, _STOP_STEP)
        for wire in list(self._wires):
            wire.drop()

    def __len__(self) -> int:
        """How many consoles are open."""
        return sum(len(_sessions(terminals)) for terminals in self._wires.values() if terminals is not None)

    # ---------------------------------------------------------------- connections

    def buildProtocol(self, addr: IAddress | None) -> SshWire | None:
        host = getattr(addr, "host", "")
        if self._stopping or not self._throttle.admit(host, self.clock.seconds()):
            return None
        if self._throttle.crowded:
            self._make_room()
        wire = SshWire(self, self._config.login_grace)
        wire.factory = self
        wire.peer = host
        self._wires[wire] = None
        return wire

    def _make_room(self) -> None:
        """The oldest that waits gives way; first of those that have not even exchanged keys, which costs them, too."""
        waiting = [wire for wire, inside in self._wires.items() if inside is None and not wire.ended]
        if waiting:
            next((wire for wire in waiting if wire.sessionID is None), waiting[0]).drop()

    def login_service(self, wire: SshWire) -> Login:
        """See WireOwner."""
        return Login(self, wire, lambda claims: self._welcome(wire, claims))

    def failed(self, peer: str, why: str) -> None:
        """See LoginDesk."""
        self._log.info("an SSH login from {peer} was refused: {reason}", peer=peer, reason=why)
        self._throttle.failed(peer, self.clock.seconds())

    def _welcome(self, wire: SshWire, claims: Claims) -> None:
        now = self.clock.seconds()
        self._throttle.left(wire.peer, now)
        self._throttle.succeeded(wire.peer, now)
        end = TokenEnd(claims, now, self._hall.now())
        terminals = Terminals(wire, end, self._turns, lambda terminal: self._open_screen(wire, end, terminal))
        self._wires[wire] = terminals
        wire.open_to(terminals)
        wire.end_after(self._config.login_grace, b"no shell was asked for in time")

    def _open_screen(self, wire: SshWire, end: TokenEnd, terminal: Terminal) -> ShellSession:
        wire.stay()
        session = ShellSession(self._hall, wire, end, terminal, lambda why: self._session_over(wire, why))
        terminal.screen = session
        session.begin()
        return session

    def _session_over(self, wire: SshWire, why: Close | None) -> None:
        """A session has ended: a connection without another has no reason to stay, nor has one whose login is over."""
        terminals = self._wires.get(wire)
        if terminals is None:
            return
        if why is not None and why.code in LOGIN_OVER:
            self._shut(wire, terminals, why)
        elif not _sessions(terminals):
            wire.end_after(LAST_WORDS, b"no terminal is open")

    def revoke(self, jti: str | None = None, user_id: str | None = None, server_id: str | None = None) -> None:
        """Ends the connections whose login matches all that is given, with a terminal or none yet (W11)."""
        for wire, terminals in list(self._wires.items()):
            if terminals is not None and terminals.end.claims.meant(jti, user_id, server_id):
                self._shut(wire, terminals, Close(CloseCode.FORBIDDEN, "revoked"))

    def _shut(self, wire: SshWire, terminals: Terminals, why: Close) -> None:
        if wire.shut:
            return
        wire.end_soon(why.reason.encode())
        for session in _sessions(terminals):
            session.close(why.code, why.reason)

    def gone(self, wire: SshWire) -> None:
        """See WireOwner."""
        if self._wires.pop(wire, None) is None:
            self._throttle.left(wire.peer, self.clock.seconds())

    # ---------------------------------------------------------------- time

    def _tick(self) -> None:
        now = self.clock.seconds()
        for wire, terminals in list(self._wires.items()):
            if terminals is None or wire.ended:
                continue
            try:
                self._look_after(wire, terminals, now)
            except Exception:
                self._log.failure("looking after an SSH connection failed")

    def _look_after(self, wire: SshWire, terminals: Terminals, now: float) -> None:
        if wire.exchanging and now - wire.exchange_began >= _EXCHANGE_DEADLINE:
            wire.sendDisconnect(3, b"a key exchange that does not end")
        for session in _sessions(terminals):
            session.tick(now)
        if now - max(wire.heard_at, terminals.asked_at) >= self._hall.config.ping_interval:
            terminals.asked_at = now
            terminals.keep_alive()


def _sessions(terminals: Terminals) -> list[ShellSession]:
    """Those that have not ended."""
    screens = [terminal.screen for terminal in terminals.terminals()]
    return [screen for screen in screens if isinstance(screen, ShellSession) and not screen.closed]
