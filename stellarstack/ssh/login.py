"""Finds out who wants in: by a console token as password, or by a public key (SECURITY S03, S04).

Whatever is wrong is answered alike and after the same second, whoever it was; three wrong tries end the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from twisted.conch.ssh.transport import DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from stellarstack.core.claims import Claims
from stellarstack.errors import StellarError, TokenExpired, Unauthorized
from stellarstack.interfaces import TokenVerifier
from stellarstack.ssh.conch import QuietLog, Service
from stellarstack.ssh.keybook import BLOB_MAX, KeySource
from stellarstack.ssh.order import USERAUTH_REQUEST, Broken
from stellarstack.ssh.packets import Fields, string
from stellarstack.ssh.wire import SshWire
from stellarstack.tasks import Tasks, sleep, within

FAILURE, SUCCESS, BANNER, KEY_OK = 51, 52, 53, 60
TRIES = 3
_QUESTIONS = 20  # what one connection may ask, keys that it only offers included
_ANSWER_AFTER = 1.0  # seconds from a wrong try to its answer
_VERIFY_TIMEOUT = 10.0
_TOKEN_MAX = 8192
_LOGIN_MAX = 512


class LoginDesk(Protocol):
    """What every login shares."""

    tokens: TokenVerifier
    keys: KeySource
    clock: IReactorTime
    tasks: Tasks

    def failed(self, peer: str, why: str) -> None:
        """A wrong try from there."""


class Login(Service):
    """The `ssh-userauth` service of one connection. `welcome` is called once, with whoever it turned out to be."""

    name = b"ssh-userauth"
    _log = QuietLog()
    _own_log = Logger()

    def __init__(self, desk: LoginDesk, wire: SshWire, welcome: Callable[[Claims], None]) -> None:
        self._desk = desk
        self._wire = wire
        self._welcome = welcome
        self._judging = False
        self._questions = 0
        self._tries = 0
        self._methods = b"publickey,password" if len(desk.keys) else b"password"

    def packetReceived(self, messageNum: int, packet: bytes) -> None:
        """A request for a login: the one message there is before it."""
        if messageNum != USERAUTH_REQUEST or self._judging:
            raise Broken("another login while one is judged")
        self._questions += 1
        if self._questions > _QUESTIONS:
            raise Broken("too many logins")
        fields = Fields(packet)
        login, service, method = fields.string(), fields.string(), fields.string()
        if service != b"ssh-connection":
            raise Broken("no such service")
        name = login.decode("utf-8", "replace") if len(login) <= _LOGIN_MAX else ""
        if method == b"password":
            self._password(name, fields)
        elif method == b"publickey":
            self._publickey(name, login, fields)
        else:
            self._say_no()

    # ---------------------------------------------------------------- password

    def _password(self, login: str, fields: Fields) -> None:
        changes, password = fields.boolean(), fields.string()
        if changes:
            fields.string()
        fields.end()
        good = not changes and 0 < len(password) <= _TOKEN_MAX and b"\0" not in password and password.isascii()
        self._judge(self._by_token(login, password.decode("ascii") if good else ""))

    async def _by_token(self, login: str, token: str) -> Claims:
        if not token:
            raise Unauthorized("no token")
        work = self._desk.tokens.verify(token)
        claims = await within(self._desk.clock, _VERIFY_TIMEOUT, "judging a token", work)
        # both ids may hold dots: the token says where the one ends and the other begins
        if login != f"{claims.user_id}.{claims.server_id}" or not claims.allows("console.read"):
            raise Unauthorized("the token is another's, or does not allow console.read")
        return claims

    # ---------------------------------------------------------------- public key

    def _publickey(self, name: str, login: bytes, fields: Fields) -> None:
        signed, algorithm, blob = fields.boolean(), fields.string(), fields.string()
        signature = fields.string() if signed else b""
        fields.end()
        found = self._desk.keys.find(name, blob) if len(blob) <= BLOB_MAX and len(self._desk.keys) else None
        if not signed:
            if found is None:
                self._say_no()
            else:
                self._wire.sendPacket(KEY_OK, string(algorithm) + string(blob))
            return
        words = (login, b"ssh-connection", b"publickey")
        text = string(self._wire.sessionID) + bytes([USERAUTH_REQUEST]) + b"".join(map(string, words))
        text += b"\1" + string(algorithm) + string(blob)
        good = found is not None and len(signature) <= BLOB_MAX and found.signed(algorithm, signature, text)
        self._judge(self._at_once(found.claims if found is not None and good else None))

    async def _at_once(self, claims: Claims | None) -> Claims:
        if claims is None or not claims.allows("console.read"):
            raise Unauthorized("no such key, or its signature is wrong")
        return claims

    # ---------------------------------------------------------------- the answer

    def _judge(self, judging: Coroutine[Any, Any, Claims]) -> None:
        self._judging = True
        self._desk.tasks.spawn("an SSH login", self._answer(judging))

    async def _answer(self, judging: Coroutine[Any, Any, Claims]) -> None:
        asked_at = self._desk.clock.seconds()
        try:
            claims = await judging
        except StellarError as error:
            await self._refuse(error, asked_at)
        except CancelledError:  # the daemon stops
            raise
        except Exception:
            self._own_log.failure("a login of {peer} could not be judged", peer=self._wire.peer)
            await self._refuse(Unauthorized("it could not be judged"), asked_at)
        else:
            if not self._wire.ended:
                self._wire.sendPacket(SUCCESS, b"")
                self._welcome(claims)

    async def _refuse(self, error: StellarError, asked_at: float) -> None:
        clock = self._desk.clock
        self._desk.failed(self._wire.peer, str(error))
        await sleep(clock, max(0.0, asked_at + _ANSWER_AFTER - clock.seconds()))
        self._judging = False
        self._tries += 1
        if self._wire.ended:
            return
        if isinstance(error, TokenExpired):
            self._wire.sendPacket(
                BANNER, string(b"the token has expired: ask the panel for a new one\r\n") + string(b"")
            )
        if self._tries >= TRIES:
            self._wire.sendDisconnect(DISCONNECT_NO_MORE_AUTH_METHODS_AVAILABLE, b"too many wrong logins")
        else:
            self._say_no()

    def _say_no(self) -> None:
        self._wire.sendPacket(FAILURE, string(self._methods) + b"\0")
