"""Runs the linters and the trial suites, a few at a time, and counts what they say. Called by script/test."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
RUNS = ROOT / ".run" / "test"
WORK = RUNS / str(os.getpid())  # two runs at a time do not get into each other's way
SIDE_BY_SIDE = 2
INTEGRATION_SIDE_BY_SIDE = 3  # they wait for Docker more than they compute
UNIT_GROUPS = 6  # processes of the unit part: few enough for their imports, enough to keep both cores at work
EXAMPLES = 8  # times the examples of Hypothesis in the integration part; see tests/examples.py
MODULE_DEADLINE = 300.0
PROPERTIES = "properties"  # the name of their group
LINTED = ("stellarstack", "tests", "twisted", "bench", "demo", "script")
_SUMMARY = re.compile(r"^(?:PASSED|FAILED)(?: \((?P<counts>[^)]*)\))?$", re.MULTILINE)
# A reason for which tests were skipped, and their names, as trial tells them.
_SKIPPED = re.compile(r"^\[SKIPPED\]\n(?:(?!={20}|-{20}).*\n)+", re.MULTILINE)
_NAMES = re.compile(r"^tests\.[\w.]+$", re.MULTILINE)
UNFIT = "does not run on this CPU"  # the only reason for which CI may skip: nothing that is installed mends it
_RAN = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)


@dataclass(frozen=True)
class Count:
    """What trial said. `excused` are those of the skipped ones that this machine's CPU cannot run."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    excused: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped,
            self.excused + other.excused,
        )  # fmt: skip

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def counted(output: str, status: int) -> Count:
    """Reads trial's closing lines. A run that ended without them, or with a status that they do not explain, failed."""
    summary, ran = _SUMMARY.findall(output), _RAN.findall(output)
    if not summary or not ran:
        return Count(failed=1)
    numbers = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", summary[-1])}
    passed = numbers.get("successes", 0) + numbers.get("expectedFailures", 0)
    failed = sum(numbers.get(name, 0) for name in ("failures", "errors", "unexpectedSuccesses"))
    if not failed and (status != 0 or int(ran[-1]) == 0):
        failed = 1
    excused = sum(len(_NAMES.findall(block)) for block in _SKIPPED.findall(output) if UNFIT in block)
    return Count(passed, failed, numbers.get("skips", 0), excused)


def run_module(name: str, modules: Sequence[str], *, measured: bool) -> tuple[Count, str, float]:
    """One trial process. Answers its count, what it printed, and its seconds."""
    began = time.monotonic()
    times = EXAMPLES if name == PROPERTIES else 1
    work = WORK / name
    command = [sys.executable]
    if measured:
        command += ["-m", "coverage", "run", "--data-file", str(WORK / f".coverage.{name}")]
    command += ["-m", "twisted.trial", "--temp-directory", str(work / "trial"), *modules]
    work.mkdir(parents=True)
    with (work / "output").open("w+b") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
            env={**os.environ, "HYPOTHESIS_TIMES": str(times)},
        )
        try:
            status = child.wait(MODULE_DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            status = child.wait()
            log.write(f"\nended after {MODULE_DEADLINE:.0f} s\n".encode())
        log.seek(0)
        output = log.read().decode(errors="replace")
    return counted(output, status), output, time.monotonic() - began


def run_suite(pool: Executor, title: str, groups: dict[str, list[str]], *, measured: bool) -> Count:
    """Runs the groups side by side; prints a line for each and the whole output of those with a fault."""
    began = time.monotonic()
    total = Count()
    for name, (count, output, seconds) in zip(
        groups, pool.map(partial(run_module, measured=measured), groups, groups.values()), strict=True
    ):
        total += count
        if count.failed:
            print(f"\n{output}")
        elif count.skipped:
            print("\n".join(re.findall(r"^\[SKIPPED\]\n.*", output, re.MULTILINE)))
        print(f"{name}: {count} in {seconds:.0f} s", flush=True)
    print(f"{title}: {total} in {time.monotonic() - began:.1f} s", flush=True)
    return total


def unit_groups(named: Sequence[str]) -> dict[str, list[str]]:
    """The unit tests in UNIT_GROUPS lists, each with about the same number of lines."""
    paths = sorted((ROOT / "tests").glob("test_*.py"), key=lambda path: -path.stat().st_size)
    modules = [f"tests.{path.stem}" for path in paths]
    modules = [module for module in modules if not named or module in named]
    groups = {f"unit-{number + 1}": modules[number::UNIT_GROUPS] for number in range(UNIT_GROUPS)}
    return {name: group for name, group in groups.items() if group}


def integration_groups(named: Sequence[str]) -> dict[str, list[str]]:
    """Each module in a process of its own, the large ones first; those of the browser too, and the unit tests that
    make examples, with many more of them.
    """
    found = [path for room in ("integration", "e2e") for path in (ROOT / "tests" / room).glob("test_*.py")]
    paths = sorted(found, key=lambda path: -path.stat().st_size)
    modules = [f"tests.{path.parent.name}.{path.stem}" for path in paths]
    groups = {module: [module] for module in modules if not named or module in named}
    if named:
        return groups
    unit = sorted((ROOT / "tests").glob("test_*.py"))
    return {
        PROPERTIES: [f"tests.{path.stem}" for path in unit if "from tests.examples import" in path.read_text()],
        **groups,
    }


def lint(pool: Executor) -> Callable[[], list[str]]:
    """Begins to lint; answers how to wait for the names of the linters that complain."""
    linted = [name for name in LINTED if (ROOT / name).exists()]
    checks = {
        "mypy": ["mypy"],  # by far the longest
        "ruff check": ["ruff", "check", *linted],
        "ruff format": ["ruff", "format", "--check", *linted],
        "towncrier": ["towncrier", "build", "--draft", "--version", "next"],
    }
    running = {name: pool.submit(_tool, command) for name, command in checks.items()}

    def ended() -> list[str]:
        faults = []
        for name, tool in running.items():
            done = tool.result()
            print(f"{name}: {'ok' if done.returncode == 0 else 'complains'}", flush=True)
            if done.returncode:
                print(done.stdout + done.stderr)
                faults.append(name)
        return faults

    return ended


def _tool(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def coverage() -> list[str]:
    """Combines what all processes measured and holds it against [tool.coverage.report] fail_under."""
    data = str(WORK / ".coverage")
    _tool(["coverage", "combine", "--quiet", "--data-file", data, str(WORK)])
    done = _tool(["coverage", "report", "--data-file", data])
    lines = (done.stdout + done.stderr).strip().splitlines()
    print("\n".join(lines if done.returncode else lines[-2:]), flush=True)
    return ["coverage"] if done.returncode else []


def main(words: Sequence[str]) -> int:
    # started in the background by a script, Ctrl-C would be ignored by all that tests start
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and under nohup a client would outlive its window
    part, named = (words[0] if words else "all"), words[1:]
    WORK.mkdir(parents=True)
    for earlier in RUNS.iterdir():
        if not Path("/proc", earlier.name).exists():
            shutil.rmtree(earlier, ignore_errors=True)
    faults, total = [], Count()
    whole = part == "all" and not named  # only the whole is held to the coverage that is asked for
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        linted = lint(pool) if not named else list
        if part in ("unit", "all"):
            total += run_suite(pool, "unit", unit_groups(named), measured=whole)
        faults += linted()
    if part in ("integration", "all"):
        with ThreadPoolExecutor(INTEGRATION_SIDE_BY_SIDE) as pool:
            found = run_suite(pool, "integration", integration_groups(named), measured=whole)
        total += found
        if found.skipped > found.excused and os.environ.get("CI") == "true":
            faults.append("integration tests were skipped, and CI has all that they need")
    if whole:
        faults += coverage()
    if faults:
        print(f"not good: {', '.join(faults)}")
    print(total)
    return int(bool(faults) or total.failed > 0 or total.passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
