"""`readroom gateway`: nothing is taken unless the gateway accepts its file, and titles can be edited."""

from pathlib import Path

import pytest

from gateway.settings import load
from tests.readroom.conftest import Run


@pytest.fixture
def larch(admin: Run) -> Run:
    """With a facility."""
    admin("facility", "create", "Larch")
    return admin


REFUSED = (
    ("--listen", "0.0.0.0:99999"),
    ("--listen", "0.0.0.0"),
    ("--plain-listen", "0.0.0.0:port"),
    ("--plain-listen", "0.0.0.0:2762"),  # where it listens over TLS
    ("--modality", "CT1@ct1.larch.example"),
    ("--modality", "A-TITLE-OF-MORE-THAN-16@10.0.0.7"),
    ("--ae-title", "LARCH=Larch"),
    ("--ae-title", "LA\\RCH=Larch"),
)


@pytest.mark.parametrize("option", REFUSED, ids=" ".join)
def test_what_the_gateway_would_refuse_takes_no_title(
    larch: Run, tmp_path: Path, option: tuple[str, str]
) -> None:
    words = ("gateway", "enrol", "larch", "--ae-title", "LARCH=Larch", "--to", tmp_path / "site")
    answer = larch(*words, *option)
    assert answer.code == 2, answer.err
    assert not (tmp_path / "site/gateway.key").exists()
    assert not [g for g in larch("gateway", "list", "--json").json if g["name"] == "larch"]


def test_the_file_of_an_enrolled_gateway_is_one_that_the_gateway_takes(larch: Run, tmp_path: Path) -> None:
    site = tmp_path / "site"
    words = (
        "gateway",
        "enrol",
        "pine",
        "--ae-title",
        "PINE=Larch",
        "--ae-title",
        "PINE2=Larch",
        "--to",
        site,
    )
    extra = ("--listen", "[::]:2762", "--plain-listen", "127.0.0.1:11112", "--modality", "CT1@10.0.0.7")
    assert larch(*words, *extra).code == 0
    settings = load(site / "gateway.toml")
    assert settings.ae_titles == ("PINE", "PINE2")
    assert [(each.ae_title, each.address) for each in settings.modalities] == [("CT1", "10.0.0.7")]


def test_titles_of_a_gateway_are_edited_and_the_list_tells_what_is_known(larch: Run, tmp_path: Path) -> None:
    larch("facility", "create", "Larch Two")
    enrolled = ("gateway", "enrol", "spruce", "--ae-title", "SPRUCE=Larch", "--to", tmp_path / "site")
    assert larch(*enrolled).code == 0
    changed = larch("gateway", "change", "spruce", "--ae-title", "SPRUCE2=Larch Two", "--name", "Spruce Main")
    assert changed.code == 0, changed.err
    assert 'put `ae_titles = ["SPRUCE", "SPRUCE2"]` into its gateway.toml' in changed.out
    change = ("gateway", "change", "Spruce Main")
    moved = larch(*change, "--ae-title", "SPRUCE2=Larch", "--remove-title", "SPRUCE")
    assert moved.code == 0, moved.err
    (shown,) = (g for g in larch("gateway", "list", "--json").json if g["name"] == "Spruce Main")
    assert shown["ae_titles"] == ["SPRUCE2=Larch"]
    assert shown["certificate_ends"] > shown["enrolled_at"]
    assert (shown["last_heard"], shown["waiting"], shown["software"]) == (None, None, None), "not known yet"

    stale = larch(*change, "--name", "x", "--version", "1")
    assert (stale.code, "was changed by `admin`" in stale.err) == (6, True)
    twice = larch(*change, "--ae-title", "A=Larch", "--ae-title", "A=Larch Two")
    assert (twice.code, "`A` is named twice" in twice.err) == (2, True)
    assert larch(*change, "--remove-title", "NONE").code == 3
    assert larch(*change, "--remove-title", "SPRUCE2").code == 2
    again = larch("gateway", "enrol", "spruce main", "--ae-title", "OTHER=Larch", "--to", tmp_path / "other")
    assert (again.code, "there is already a gateway named `spruce main`" in again.err) == (6, True)
