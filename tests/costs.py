"""What the tests of each file cost in processor time, with every process that they start: a pytest plugin.

After a run of more than `WORTH_TELLING_S` it prints the total and the ten costliest files, and keeps the
total in `.pytest_cache/v/costs/processor_s`, where `.ci/run` looks. Wall time would tell how busy the machine
is instead.
"""

import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

WORTH_TELLING_S = 60
COSTLIEST = 10

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PARENT, _TIMES = 1, slice(11, 15)
"""In /proc/PID/stat, after the name: whose child it is; its own times, and those of children it awaited."""

_total_s: defaultdict[str, float] = defaultdict(float)


def processor_s(root: int) -> float:
    """Seconds that a process and all below it have used so far, in their own code and in the system's."""
    used: dict[int, int] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        used[int(process.name)] = sum(map(int, fields[_TIMES]))
        children[int(fields[_PARENT])].append(int(process.name))
    family, ticks = [root], 0
    while family:
        member = family.pop()
        ticks += used.get(member, 0)
        family += children[member]
    return ticks / _TICKS_PER_S


class Meter:
    """Reads the clock of this process's family whenever another file begins."""

    def __init__(self) -> None:
        self.read_s = 0.0

    def _note(self, what: str) -> None:
        before, self.read_s = self.read_s, processor_s(os.getpid())
        _total_s[what] += max(self.read_s - before, 0.0)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self) -> None:
        self._note("collecting, in all workers")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        result = yield
        file = item.nodeid.partition("::")[0]
        if nextitem is None or nextitem.nodeid.partition("::")[0] != file:
            self._note(file)
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["costs"] = dict(_total_s)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") == "no":  # a worker, or a run without any
        config.pluginmanager.register(Meter())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    for file, seconds in getattr(node, "workeroutput", {}).get("costs", {}).items():
        _total_s[file] += seconds


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    total_s = sum(_total_s.values())
    if total_s < WORTH_TELLING_S:
        return
    if config.cache:
        config.cache.set("costs/processor_s", round(total_s))
    terminalreporter.section(f"{total_s:.0f} s of processor time, of them")
    for file in sorted(_total_s, key=_total_s.__getitem__, reverse=True)[:COSTLIEST]:
        terminalreporter.write_line(f"{_total_s[file]:6.1f} s  {file}")
