"""Installing a server: its script runs in a container of its own, under limits, and its exit status is believed."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from stellarstack.core.container_spec import install_body
from stellarstack.core.events import install_output
from stellarstack.errors import ContainerGone, DockerUnavailable, InstallFailed, StellarError, TimedOut
from stellarstack.servers.folders import prepare_root, remove_own, write_private
from stellarstack.servers.placement import ensure_image, placement_of
from stellarstack.servers.server import Server
from stellarstack.servers.surroundings import Surroundings
from stellarstack.tasks import sleep, within

FAILED_LOGS = 20  # logs of creates that failed, whose servers are not here: so many are kept
LOG_HALF = 2 * 2**20  # characters of an install's begin, and of its end, that are kept in its log file
SHOWN_PER_SECOND = 256 * 2**10  # characters that are sent as events; a script that floods is shown in part
TAIL = 500  # characters of output that a failure's message tells
LAST_WORDS = 2.0  # seconds that the output may come later than the exit status
ASK_AGAIN = 1.0  # seconds between questions to an engine that let go of the wait


def install_name(server: Server) -> str:
    """Of the container that runs the script. No server's own container begins like this, whatever its id."""
    return f"install-{server.container_name}"


def install_folder(around: Surroundings, server_id: str) -> Path:
    """Where the script and the last install's log lie, out of the tenant's reach."""
    return around.state_root / "install" / server_id


class Output:
    """Meets OutputSink: shows what the script prints and keeps it for the log file, its begin and its end."""

    def __init__(self, show: Callable[[str], None], now: Callable[[], float]) -> None:
        self._show = show
        self._now = now
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._begin: list[str] = []
        self._end: deque[str] = deque()
        self._begin_size = self._end_size = self._left_out = 0
        self._second, self._shown = 0, 0
        self.ended: Deferred[None] = Deferred()

    def output_received(self, data: bytes) -> None:
        text = self._decode(data)
        if text:
            self._keep(text)
            self._show_some(text)

    def output_ended(self) -> None:
        if not self.ended.called:
            self.ended.callback(None)

    def text(self) -> str:
        """What was kept; where the middle is missing, it says so."""
        middle = f"\n[{self._left_out} characters left out]\n" if self._left_out else ""
        return "".join([*self._begin, middle, *self._end])

    def _keep(self, text: str) -> None:
        if self._begin_size < LOG_HALF:
            self._begin.append(text)
            self._begin_size += len(text)
            return
        self._end.append(text)
        self._end_size += len(text)
        while self._end_size > LOG_HALF and len(self._end) > 1:
            gone = len(self._end.popleft())
            self._end_size -= gone
            self._left_out += gone

    def _show_some(self, text: str) -> None:
        if int(self._now()) != self._second:
            self._second, self._shown = int(self._now()), 0
        if self._shown <= SHOWN_PER_SECOND:
            self._shown += len(text)
            self._show(text if self._shown <= SHOWN_PER_SECOND else f"{text}\n[output left out]\n")


class Installation:
    """One run of a server's install script (`skip`: of none). Leaves no container behind, whatever ends it."""

    _log = Logger()

    def __init__(self, server: Server, skip: bool = False) -> None:
        self._server = server
        self._plan = None if skip else server.spec.blueprint.install
        self._name = install_name(server)
        self._folder = install_folder(server.around, server.id)
        self._script = self._folder / "script"
        self._output = Output(self._publish, server.around.now)

    async def prepare(self) -> None:
        """Has what the script needs, before anything of the server is touched. ImageNotFound, ImagePullFailed."""
        if self._plan is not None:
            await ensure_image(self._server.spec.install_image, self._server, anew=True)

    async def run(self, renew: bool = False) -> None:
        """Makes the server's folder (`renew`: anew and empty) and runs the script in it.

        InstallFailed: it did not end with 0. TimedOut: not within the blueprint's time.
        """
        around, install = self._server.around, self._plan
        if renew:
            await around.trees.remove(self._server.root)
        user = self._server.user
        await around.in_thread(prepare_root, self._server.root, *user, self._server.spec.subfolders)
        await around.fence.limit(self._server.id, self._server.root, self._server.spec.disk_mb * 2**20)
        if install is None:
            return
        await around.in_thread(write_private, self._script / "install.sh", install.script.replace("\r\n", "\n"), 0o755)
        await around.in_thread(self._script.chmod, 0o755)  # the server's user must reach it
        self._server.progress("installing")
        try:
            code = await within(around.clock, install.timeout, f"the install of server {self._server.id}", self._run())
        finally:
            await self._clean()
            if install.root:
                await around.trees.hand_over(self._server.root, *user)
        if code != 0:
            last = " ".join(self._output.text()[-TAIL:].split())
            raise InstallFailed(f"the install script of server {self._server.id} ended with status {code}: {last}")

    async def _run(self) -> int:
        around = self._server.around
        await around.hands.remove(self._name)
        body = install_body(self._server.spec, placement_of(self._server, str(self._script)))
        container = await around.hands.create_container(self._name, body)
        attachment = await around.engine.attach(container, self._output)
        try:
            await around.hands.start(container)
            code = await self._exit_status(container)
            await self._last_words()
            return code
        finally:
            attachment.close()

    async def _exit_status(self, container: str) -> int:
        """An engine that restarts under a script that runs on is asked again."""
        while True:
            try:
                return await self._server.around.engine.wait(container)
            except ContainerGone:
                raise InstallFailed(f"somebody removed the install container of server {self._server.id}") from None
            except (DockerUnavailable, TimedOut) as error:
                self._log.warn("{server}: install is asked for again: {reason}", server=self._server.id,
                               reason=str(error))  # fmt: skip
            await sleep(self._server.around.clock, ASK_AGAIN)

    async def _last_words(self) -> None:
        try:
            await within(self._server.around.clock, LAST_WORDS, "the install's output", self._output.ended)
        except TimedOut:
            self._log.warn("{server}: its install's output did not end", server=self._server.id)

    async def _clean(self) -> None:
        around = self._server.around
        try:
            await around.hands.remove(self._name)
        except (StellarError, CancelledError) as error:
            self._log.warn("{container} could not be removed: {reason}", container=self._name, reason=str(error))
        try:
            await around.in_thread(write_private, self._folder / "install.log", self._output.text())
            await around.in_thread(remove_own, self._script)
        except StellarError as error:
            self._log.warn("{server}: its install's log or script: {reason}", server=self._server.id, reason=str(error))

    def _publish(self, text: str) -> None:
        around = self._server.around
        around.bus.publish(install_output(self._server.id, around.node_id, around.now(), text))
