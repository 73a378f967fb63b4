"""A figure that misses what is due is called missed, and fails the measurement."""

import json
from pathlib import Path

import pytest

from bench.results import Due, Result, at_least, at_most, report, save, times_the_peer


def a_result(what: str = "mails", ours: float = 180.0, due: Due | None = None, **more: float) -> Result:
    return Result(id="P11", what=what, ours=ours, unit="/s", runs=3, spread="144-195", due=due, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("due", "verdict", "code"),
    [
        (at_least(100), "due >= 100 /s: met", 0),
        (at_least(180), "due >= 180 /s: met", 0),
        (at_least(200), "due >= 200 /s: missed", 1),
        (at_most(100), "due <= 100 /s: missed", 1),
        (times_the_peer(0.25), "due >= 0.25x: met", 0),
        (times_the_peer(2.5), "due >= 2.5x: missed", 1),
    ],
)
def test_a_figure_that_misses_its_due_fails(
    due: Due, verdict: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = [a_result("others"), a_result(due=due, peer=720.0, ratio=0.25)]

    assert report(figures) == code

    assert capsys.readouterr().out.splitlines()[1].endswith(verdict)


def test_a_figure_without_the_peer_that_it_is_due_against_misses() -> None:
    assert report([a_result(due=times_the_peer(2.0))]) == 1


def test_the_table_says_what_was_missed_also_of_an_earlier_measurement(tmp_path: Path) -> None:
    save([a_result(due=at_least(200))], "no peers", tmp_path)
    save([], "no peers", tmp_path)

    (row,) = [line for line in (tmp_path / "README.md").read_text().splitlines() if line.startswith("| P11")]
    assert "| >= 200 /s | **missed** |" in row
    assert [row["met"] for row in json.loads((tmp_path / "results.json").read_text())] == [False]
