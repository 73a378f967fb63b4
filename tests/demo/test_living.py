"""The living system: its cases, and what a visitor finds."""

import asyncio
import re
import signal
import stat
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest

from demo import visitor
from demo.invented import CASES, studies
from local.system import ROOT

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_the_cases_vary_are_the_same_each_time_and_some_have_priors() -> None:
    made = list(studies(NOW))

    assert made == list(studies(NOW))
    assert len(made) == len({each.study.study_instance_uid for each in made}) == CASES
    assert {each.elements["Modality"] for each in made} == {"CT", "MR", "CR", "US", "MG"}
    assert len({each.facility for each in made}) == 2
    assert max(Counter(each.elements["PatientID"] for each in made).values()) > 1
    assert all(NOW - timedelta(days=3) < _made_at(each.elements) <= NOW for each in made)


def test_an_invented_study_is_what_it_says(tmp_path: Path) -> None:
    study = next(studies(NOW))

    written = [pydicom.dcmread(path) for path in study.write(tmp_path)]

    assert len(written) == study.images
    for image in written:
        assert image.file_meta.MediaStorageSOPClassUID == image.SOPClassUID
        assert image.SOPClassUID == study.elements["SOPClassUID"]
        assert (image.Modality, image.PatientName) == (
            study.elements["Modality"],
            study.elements["PatientName"],
        )


@pytest.mark.demo
def test_a_visitor_signs_in_and_nothing_stays() -> None:
    living = subprocess.Popen(
        [sys.executable, "-m", "demo.living"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert living.stdout
        said = ""
        for line in living.stdout:
            said += line
            if line.strip().startswith("see "):
                break
        file = Path(line.strip().removeprefix("see "))
        pages = re.findall(r"Open (http://localhost:\d+) ", said)[0]
        passwords = dict(each.split()[:2] for each in file.read_text().splitlines())

        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert not any(password in said for password in passwords.values())
        assert f"{CASES} cases" in asyncio.run(_seen_by_vos(pages, passwords["vos"]))
    finally:
        living.send_signal(signal.SIGINT)
        code = living.wait(30)
    assert (code, file.parent.exists()) == (0, False)


async def _seen_by_vos(pages: str, password: str) -> str:
    return await visitor.first_page(pages, await visitor.sign_in(pages, "vos", password))


def _made_at(elements: dict[str, str]) -> datetime:
    return datetime.strptime(elements["StudyDate"] + elements["StudyTime"], "%Y%m%d%H%M%S").replace(
        tzinfo=UTC
    )
