"""`stellarctl`, the operator's command line: reads the words, asks the node, shows the answer."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from stellarstack.config import Config
from stellarstack.config_loader import load_config
from stellarstack.core.claims import PERMISSIONS
from stellarstack.core.messages import Json
from stellarstack.core.redis_acl import redis_acl
from stellarstack.ctl import arguments, output, sessions
from stellarstack.ctl.control import ControlSocket, Refused
from stellarstack.ctl.link import console_link
from stellarstack.ctl.node import ControlNode, Node, envelope
from stellarstack.errors import ConfigError, StellarError

if TYPE_CHECKING:
    from stellarstack.ctl.blueprints import Blueprints


def main(words: Sequence[str] | None = None) -> int:
    """The entry point. Exit status: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted."""
    options = arguments.parser().parse_args(words)
    try:
        return Control(options, os.environ, sys.stdout, sys.stderr).run()
    except arguments.Usage as error:
        sys.stderr.write(f"stellarctl: {error}\n")
        return 2
    except StellarError as error:
        sys.stderr.write(f"stellarctl: {' '.join(str(error).split())}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output has gone, as in `stellarctl events -f | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


class Control:
    """One run of stellarctl."""

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str], out: TextIO, err: TextIO) -> None:
        self._options = options
        self._environ = environ
        self._out = out
        self._err = err
        if (options.redis is None) != (options.node is None):
            raise arguments.Usage("--redis URL and --node ID go together")

    def run(self) -> int:
        name = "_".join(part for part in (self._options.word, getattr(self._options, "verb", None)) if part)
        verb: Callable[[], int] = getattr(self, f"_{name.replace('-', '_')}")
        return verb()

    # ------------------------------------------------------------------ words

    def _server_create(self) -> int:
        return self._command("server.create", arguments.create_payload(self._options))

    def _server_start(self) -> int:
        return self._command("server.start", self._server())

    def _server_stop(self) -> int:
        return self._command("server.stop", self._server(timeout=self._options.grace))

    def _server_restart(self) -> int:
        return self._command("server.restart", self._server(timeout=self._options.grace))

    def _server_kill(self) -> int:
        return self._command("server.kill", self._server())

    def _server_delete(self) -> int:
        keep, backups = self._options.keep_files, self._options.delete_backups
        return self._command("server.delete", self._server(deleteFiles=not keep, deleteBackups=backups))

    def _server_list(self) -> int:
        servers = self._node().servers()
        if self._options.json:
            output.as_json(servers, self._out)
        else:
            cells = ((row.get("serverId"), row.get("status"), output.ports_of(row), row.get("name")) for row in servers)
            self._out.write(output.table(("SERVER", "STATUS", "PORTS", "NAME"), cells))
        return 0

    def _console(self) -> int:
        from stellarstack.ctl.attach import open_console

        return open_console(self._options, self._optional_config(), self._control())

    def _logs(self) -> int:
        from stellarstack.ctl.attach import open_logs

        return open_logs(self._options, self._optional_config(), self._control(), self._out, self._err)

    def _sessions(self) -> int:
        rows = sessions.rows_of(self._control().get("/v1/sessions"), self._options.server)
        if self._options.json:
            output.as_json(rows, self._out)
        else:
            self._out.write(sessions.table(rows, time.time()))
        return 0

    def _revoke(self) -> int:
        wanted = {"jti": self._options.jti, "userId": self._options.user, "serverId": self._options.server}
        payload = {key: value for key, value in wanted.items() if value is not None}
        if not payload:
            raise arguments.Usage("name at least one of --jti, --user and --server")
        return self._command("console.revoke", payload)

    def _token_mint(self) -> int:
        asked: dict[str, Any] = {"serverId": self._options.server}
        for key, value in (
            ("userId", self._options.user),
            ("permissions", sorted(PERMISSIONS) if self._options.all else self._options.permission),
            ("lifetime", self._options.lifetime),
        ):
            if value is not None:
                asked[key] = value
        if self._options.url is not None and not self._options.link:
            raise arguments.Usage("--url says where a --link leads")
        minted = self._control().post("/v1/tokens", asked)
        if self._options.link:
            minted = {**minted, "link": console_link(self._options.url, self._optional_config(), str(minted["token"]))}
        if self._options.json:
            output.as_json(minted, self._out)
        else:
            self._out.write(f"{minted.get('link', minted['token'])}\n")
        return 0

    def _blueprint_import(self) -> int:
        return self._blueprints().import_files()

    def _blueprint_check(self) -> int:
        return self._blueprints().check()

    def _blueprint_list(self) -> int:
        return self._blueprints().list_all()

    def _blueprint_show(self) -> int:
        return self._blueprints().show()

    def _events(self) -> int:
        def told(event: Mapping[str, Any]) -> None:
            if not self._is_wanted(event.get("type")):
                return
            if self._options.json:
                output.as_json(event, self._out)
            else:
                self._out.write(output.event_line(event))
                self._out.flush()

        self._node().events(told, follow=self._options.follow, last=self._options.last)
        return 0

    def _is_wanted(self, kind: object) -> bool:
        if self._options.type is not None:
            return kind in self._options.type
        return self._options.all or kind not in arguments.NOISE

    def _send(self) -> int:
        whole = sys.stdin.read(2**20) if self._options.payload == "-" else self._options.payload
        return self._command(
            self._options.type, arguments.send_payload(self._options.fields, whole), self._options.id, whole_event=True
        )

    def _node_info(self) -> int:
        found = self._node().about()
        if self._options.json:
            output.as_json(found, self._out)
        else:
            self._out.write(output.pairs(found))
        return 0

    def _doctor(self) -> int:
        from stellarstack.ctl.doctor import Doctor, show

        checks = Doctor(path=self._config_path(), environ=self._environ, socket=self._options.socket).examine()
        return show(checks, self._out, as_json=self._options.json)

    def _redis_acl(self) -> int:
        node = self._config().node
        if node.id is None or node.api_token is None:
            raise arguments.Usage("the user is made of [node] id and api_token, which the config does not have")
        rule = redis_acl(node.id, node.api_token.reveal(), sentinel=self._options.sentinel)
        if self._options.json:
            output.as_json({"nodeId": node.id, "rule": rule}, self._out)
        else:
            self._out.write(f"{rule}\n")
        return 0

    def _blueprints(self) -> Blueprints:
        if self._options.redis is not None:
            raise arguments.Usage("blueprints are files of the node itself: this cannot be done through --redis")
        from stellarstack.ctl.blueprint_folder import BlueprintFolder
        from stellarstack.ctl.blueprints import Blueprints

        def folder() -> BlueprintFolder:
            return BlueprintFolder(self._config().blueprints_path)

        return Blueprints(self._options, folder, self._out, self._err)

    # ------------------------------------------------------------------ ways to the node

    def _node(self) -> Node:
        if self._options.redis is None:
            return ControlNode(self._control())
        from stellarstack.ctl.redis_node import RedisNode, reachable_url, run_once

        config = self._optional_config()
        return RedisNode(
            config=config,
            url=reachable_url(config, self._options.redis),
            node_id=self._options.node,
            timeout=self._options.timeout,
            run=run_once,
        )

    def _control(self) -> ControlSocket:
        if self._options.redis is not None:
            raise arguments.Usage("this needs the control socket of the node itself, not --redis")
        return ControlSocket(self._options.socket or self._config().paths.control_socket)

    def _config_path(self) -> Path:
        return self._options.config or arguments.DEFAULT_CONFIG

    def _config(self) -> Config:
        try:
            return load_config(self._config_path(), self._environ)
        except ConfigError as error:
            hint = "" if self._options.config else " (another one: -c FILE, or --socket PATH without any)"
            raise Refused(f"{error}{hint}") from None

    def _optional_config(self) -> Config:
        """The config, or the defaults where none was named and the usual one is not there or not ours to read."""
        if self._options.config is None and not os.access(arguments.DEFAULT_CONFIG, os.R_OK):
            return Config()
        return self._config()

    # ------------------------------------------------------------------ commands

    def _server(self, **more: Any) -> dict[str, Any]:
        return {"serverId": self._options.server, **{key: value for key, value in more.items() if value is not None}}

    def _command(
        self, kind: str, payload: Mapping[str, Any], command_id: str | None = None, *, whole_event: bool = False
    ) -> int:
        asked = envelope(kind, payload)
        if command_id is not None:
            asked["id"] = command_id
        event = self._node().command(asked, self._progress, self._options.timeout)
        if self._options.json:
            output.as_json(event, self._out)
            return 0 if event.get("status") == "succeeded" else 1
        if event.get("status") != "succeeded":
            raise Refused(_refusal(kind, event))
        self._show_result(event.get("result"), whole=whole_event)
        return 0

    def _show_result(self, result: Json, *, whole: bool) -> None:
        if isinstance(result, dict):
            rest = result if whole else {key: value for key, value in result.items() if key != "containerId"}
            self._out.write(
                output.pairs({**rest, **({"ports": output.ports_cell(rest["ports"])} if "ports" in rest else {})})
            )
        if not result:
            self._out.write("done\n")

    def _progress(self, event: Mapping[str, Any]) -> None:
        """While a person waits: what an install prints and how far a pull is."""
        if self._options.json or not self._err.isatty():
            return
        if event.get("type") == "deployment.progress":
            done = f" {event['progress']} %" if event.get("progress") is not None else ""
            self._err.write(f"{output.plain(event.get('step'))}{done}\n")
        elif event.get("type") == "server.status":
            self._err.write(f"{output.plain(event.get('status'))}\n")
        elif event.get("type") == "install.output":
            self._err.write("".join(f"  {output.plain(line, 200)}\n" for line in str(event.get("data")).splitlines()))


def _refusal(kind: str, event: Mapping[str, Any]) -> str:
    error = event.get("error")
    told = f"{error.get('code')}: {error.get('message')}" if isinstance(error, dict) else "no reason given"
    return f"{kind} {event.get('status')}: {told}"
