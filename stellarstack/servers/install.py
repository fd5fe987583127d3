"""Installing a server: its script runs in a container of its own, under limits, and its exit status is believed."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from stellarstack.core.container_spec import install_body
from stellarstack.core.events import install_output
from stellarstack.errors import InstallFailed, StellarError
from stellarstack.servers.folders import prepare_root, remove_tree, write_private
from stellarstack.servers.placement import ensure_image, ensure_network, placement_of
from stellarstack.servers.server import Server
from stellarstack.tasks import within

LOG_LIMIT = 4 * 2**20  # bytes of one install that are kept in its log file
TAIL = 500  # characters of output that a failure's message tells


class _Output:
    """Meets OutputSink: sends what the script prints as events and keeps it for the log file."""

    def __init__(self, publish: Callable[[str], None]) -> None:
        self._publish = publish
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._kept: list[str] = []
        self._size = 0

    def output_received(self, data: bytes) -> None:
        text = self._decode(data)
        if text:
            self._publish(text)
        if self._size < LOG_LIMIT:
            self._kept.append(text)
            self._size += len(text)

    def output_ended(self) -> None:
        """Nothing more comes; the exit status is asked for by the install itself."""

    def text(self) -> str:
        return "".join(self._kept)


class Installation:
    """One run of a server's install script. Leaves no container behind, whatever ends it."""

    _log = Logger()

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = f"{server.container_name}.install"
        self._folder = server.around.state_root / "install" / server.id
        self._output = _Output(self._publish)

    async def run(self, skip: bool = False) -> None:
        """Makes the server's folder and, unless `skip`, runs the script in it.

        InstallFailed: it did not end with 0. TimedOut: not within the blueprint's time.
        """
        around, install = self._server.around, self._server.spec.blueprint.install
        user = (around.docker.uid, around.docker.gid)
        await around.threads(prepare_root, self._server.root, *user, self._server.spec.subfolders)
        if install is None or skip:
            return
        await ensure_image(self._server.spec.install_image, self._server)
        await ensure_network(self._server)
        await around.threads(write_private, self._folder / "install.sh", install.script.replace("\r\n", "\n"), 0o755)
        await around.threads(self._folder.chmod, 0o755)  # the server's user must reach it
        self._server.progress("installing")
        try:
            code = await within(around.clock, install.timeout, f"the install of server {self._server.id}", self._run())
        finally:
            await self._clean()
        if code != 0:
            last = " ".join(self._output.text()[-TAIL:].split())
            raise InstallFailed(f"the install script of server {self._server.id} ended with status {code}: {last}")

    async def _run(self) -> int:
        engine = self._server.around.engine
        await engine.remove(self._name)
        body = install_body(self._server.spec, placement_of(self._server, str(self._folder)))
        container = await engine.create_container(self._name, body)
        attachment = await engine.attach(container, self._output)
        try:
            await engine.start(container)
            return await engine.wait(container)
        finally:
            attachment.close()

    async def _clean(self) -> None:
        around = self._server.around
        try:
            await around.engine.remove(self._name)
        except (StellarError, CancelledError) as error:
            self._log.warn("{container} could not be removed: {reason}", container=self._name, reason=str(error))
        await around.threads(_keep_log, around.state_root / "install" / f"{self._server.id}.log", self._output.text())
        await around.threads(remove_tree, self._folder)

    def _publish(self, text: str) -> None:
        around = self._server.around
        around.bus.publish(install_output(self._server.id, around.node_id, around.now(), text))


def _keep_log(path: Path, text: str) -> None:
    write_private(path, text)
