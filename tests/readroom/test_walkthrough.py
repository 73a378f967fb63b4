"""docs/walkthrough.md is run as it is written, and after it what docs/operating.md says to look at."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from local.system import ROOT, LocalSystem
from tests.ports import free_port

TRIES = 100
"""Each line gets so many tries, 0.2 s apart: a reader, too, looks again until their study has arrived."""

SCRIPT = """
set -u
trap 'kill $(jobs -p) 2>/dev/null' EXIT
try() {{
    for _ in $(seq {tries}); do eval "$1" && return; sleep 0.2; done
    echo "this line does not work: $1" >&2
    exit 1
}}
{lines}
"""


@pytest.mark.drill
def test_the_walkthrough_works_as_it_is_written(tmp_path: Path) -> None:
    text = "".join((ROOT / "docs" / page).read_text() for page in ("walkthrough.md", "operating.md"))
    text = text.replace("11112", str(free_port())).replace("2762", str(free_port()))
    lines = [
        line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    commands = [
        line.removeprefix("$ ")
        .replace(".venv/bin/python", str(ROOT / ".venv/bin/python"))
        .replace("$PWD/.venv/bin", str(ROOT / ".venv/bin"))
        for line in lines
    ]
    script = SCRIPT.format(tries=TRIES, lines="\n".join(f"try {quoted(command)}" for command in commands))
    system = LocalSystem(tmp_path / "data", first_admin="admin", durable=False)
    system.start()
    try:
        walked = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=400,
        )
    finally:
        system.stop()

    assert walked.returncode == 0, walked.stdout + walked.stderr
    assert all(line.startswith("$ ") for line in lines)
    for folder in ("images", "images-of-brandt"):
        assert len(list((tmp_path / folder).glob("*.dcm"))) == 1
    shown = walked.stdout.count("CompressedSamples, CT1")
    assert shown == 7, "Dr Vos's list, one case, some columns, shares twice; Dr Okafor; and an export"
    assert walked.stdout.count("follow up in a year") == 4, "signed; shown to Vos, Okafor and Brandt"
    assert "Eine Untersuchung wurde mit Ihnen geteilt" in walked.stdout


def quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
