"""The OpenMetrics text: its grammar, its escaping, and that all figures are in it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from stellarstack.core.exposition import DaemonFigures, Family, exposition, render
from stellarstack.core.figures import HostFigures, ServerFigures
from stellarstack.core.node_lifecycle import NodeState
from stellarstack.core.records import ServerStatus
from tests.examples import examples

HOST = HostFigures(12.5, 40.0, 1000, 400, 50.0, 5000, 2500, 11, 22, (0.5, 1.0, 1.5), 2, 99.5)
SERVER = ServerFigures(150.0, 1024, 2048, 4096, 5, 6, 7.5, 8, 9, 10)
DAEMON = DaemonFigures(
    node_id="node_a",
    version="0.1.0",
    state=NodeState.ONLINE,
    uptime=12.5,
    cpu_seconds=3.25,
    memory=1000,
    open_files=20,
    redis_connected=True,
    docker_connected=False,
    heartbeats_missed=0,
    last_seq=77,
    outbox_rows=2,
    outbox_bytes=300,
    viewers=4,
    servers={"srv_1": ServerStatus.RUNNING, "srv_2": ServerStatus.STOPPED, "srv_3": ServerStatus.STOPPED},
)
SAMPLE = re.compile(
    r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-z_]+="(\\\\|\\"|\\n|[^"\\\n])*"(,[a-z_]+="(\\\\|\\"|\\n|[^"\\\n])*")*\})? '
    r"(NaN|[+-]Inf|-?[0-9.]+(e[+-]?[0-9]+)?)"
)


class ExpositionTests(SynchronousTestCase):
    """The whole text."""

    def test_all_figures(self) -> None:
        """Figures of the host, of a server and of the daemon stand there, in base units."""
        lines = exposition(DAEMON, HOST, {"srv_1": SERVER}).splitlines()
        for line in (
            'stellarstack_build_info{node="node_a",version="0.1.0"} 1',
            'stellarstack_node_state{stellarstack_node_state="ONLINE"} 1',
            'stellarstack_node_state{stellarstack_node_state="ERROR"} 0',
            'stellarstack_link_connected{link="docker"} 0',
            "stellarstack_events_total 77",
            "stellarstack_outbox_rows 2",
            'stellarstack_servers{status="stopped"} 2',
            "stellarstack_host_cpu_ratio 0.125",
            "stellarstack_host_network_receive_bytes_total 11",
            'stellarstack_host_load{minutes="15"} 1.5',
            'stellarstack_server_cpu_ratio{server="srv_1"} 1.5',
            'stellarstack_server_block_write_bytes_total{server="srv_1"} 10',
            'stellarstack_server_uptime_seconds{server="srv_1"} 7.5',
        ):
            self.assertIn(line, lines)

    def test_grammar(self) -> None:
        """Every line is a comment or a sample, metadata comes once and before its samples, `# EOF` ends it."""
        text = exposition(DAEMON, HOST, {"srv_1": SERVER})
        self.assertTrue(text.endswith("\n# EOF\n"))
        kinds: set[str] = set()
        for line in text.splitlines()[:-1]:
            if line.startswith("# TYPE"):
                name = line.split()[2]
                self.assertNotIn(name, kinds)
                kinds.add(name)
            elif not line.startswith("#"):
                self.assertTrue(SAMPLE.fullmatch(line), line)
                name = re.sub(r"(_total|_info)$", "", re.split(r"[ {]", line)[0])
                self.assertIn(name, kinds)

    def test_without_host(self) -> None:
        """Before the host is measured the text is there without it."""
        self.assertNotIn("stellarstack_host", exposition(DAEMON, None, {}))


class RenderTests(SynchronousTestCase):
    """Names, numbers and escaping."""

    def test_escaping(self) -> None:
        """Backslash, quote and newline are escaped, in a label's value as in the help."""
        text = render([Family("m", "gauge", 'a"b\\c\nd', [({"l": 'x"\\\ny'}, 1)])])
        self.assertEqual(text, '# TYPE m gauge\n# HELP m a\\"b\\\\c\\nd\nm{l="x\\"\\\\\\ny"} 1\n# EOF\n')

    def test_numbers(self) -> None:
        """Whole numbers stay whole, what is no number is written as OpenMetrics wants it."""
        values = [1, True, 0.5, 2**53, float("nan"), float("inf"), float("-inf")]
        text = render([Family("m", "gauge", "", [({}, value) for value in values])])
        found = [line.split()[-1] for line in text.splitlines() if line.startswith("m ")]
        self.assertEqual(found, ["1", "1", "0.5", "9007199254740992", "NaN", "+Inf", "-Inf"])

    def test_bad_names(self) -> None:
        """A name that is not allowed, comes twice, or does not end with its unit is refused."""
        good = Family("m_bytes", "gauge", "", [], "bytes")
        for families in (
            [good, good],
            [Family("1m", "gauge", "", [])],
            [Family("m", "gauge", "", [], "bytes")],
            [Family("m", "gauge", "", [({"a-b": ""}, 1)])],
        ):
            self.assertRaises(ValueError, render, families)

    @examples(35)
    @given(st.text(), st.floats())
    def test_any_label(self, value: str, number: float) -> None:
        """No label's value can break out of its line (P06)."""
        lines = render([Family("m", "gauge", value, [({"l": value}, number)])]).split("\n")
        self.assertEqual(len(lines), 5)
        self.assertTrue(SAMPLE.fullmatch(lines[2]), lines[2])
