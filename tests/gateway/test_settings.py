"""One file, read once; a bad value names its key."""

import re
import subprocess
from pathlib import Path

import pytest

from gateway.settings import Settings, load
from kernel.errors import Invalid

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The example of docs/gateway.md, with the files that it names."""
    for name in ("gateway.pem", "gateway.key", "ca.pem"):
        (tmp_path / name).write_text("x")
    (tmp_path / "gateway.key").chmod(0o600)
    example = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert example
    (tmp_path / "gateway.toml").write_text(example[1])
    return tmp_path / "gateway.toml"


def test_the_example_of_the_page_is_valid(file: Path) -> None:
    settings = load(file)
    assert settings.certificate == file.parent / "gateway.pem"
    assert settings.spool == file.parent / "spool"
    assert settings.ae_titles == ("MS44",)
    assert settings.plain_listener is None
    assert settings.modalities[0].ae_title == "US3"


def test_the_page_names_every_key(file: Path) -> None:
    keys = {"certificate", "key", "ca", "ae_titles", "spool", "parallel", "central", "listener"}
    assert keys <= set(Settings.model_fields)
    assert all(key in PAGE.read_text() for key in (*keys, "plain_listener", "modalities"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('key = "gateway.key"', 'key = "absent"', "`key` is not valid"),
        ('ae_titles = ["MS44"]', "ae_titles = []", "`ae_titles` is not valid"),
        ('ae_titles = ["MS44"]', 'ae_titles = ["seventeen letters"]', "`ae_titles.0` is not valid"),
        ('ae_titles = ["MS44"]', "", "`ae_titles` is not set"),
        ("[central]", "parallell = 3\n[central]", "`parallell` is not a setting"),
        ('dicom_address = "dicom.example.org:11112"', 'dicom_address = "x"', "`central.dicom_address`"),
        ('address = "10.1.2.3"', 'address = "somewhere"', "`modalities.0.address` is not valid"),
        ("[central]", "[central", "is not TOML"),
    ],
)
def test_a_bad_value_names_its_key(file: Path, old: str, new: str, sentence: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(Invalid, match=re.escape(sentence)):
        load(file)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be read"):
        load(tmp_path / "absent.toml")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
@pytest.mark.parametrize("name", ["gateway.key", "listener.key"])
def test_a_key_that_others_may_read_is_refused_with_the_command_that_mends_it(
    file: Path, mode: int, name: str
) -> None:
    (file.parent / "listener.key").write_text("x")
    (file.parent / "listener.key").chmod(0o600)
    listener = '[listener]\nkey = "listener.key"'
    file.write_text(file.read_text().replace("[listener]", listener))
    load(file)
    key = file.parent / name
    key.chmod(mode)
    with pytest.raises(Invalid) as refusal:
        load(file)
    (command,) = re.findall("`(chmod [^`]*)`", refusal.value.sentence)
    assert subprocess.run(command.split(), check=True).returncode == 0
    load(file)
