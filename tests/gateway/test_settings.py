"""One file, read once; a bad value names its key."""

import re
from pathlib import Path

import pytest

from gateway.settings import Settings, load
from kernel.errors import Invalid

README = Path(__file__).parents[2] / "gateway" / "README.md"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The README's example, with the files that it names."""
    for name in ("gateway.pem", "gateway.key", "ca.pem"):
        (tmp_path / name).write_text("x")
    example = re.search(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    assert example
    (tmp_path / "gateway.toml").write_text(example[1])
    return tmp_path / "gateway.toml"


def test_the_example_of_the_readme_is_valid(file: Path) -> None:
    settings = load(file)
    assert settings.certificate == file.parent / "gateway.pem"
    assert settings.spool == file.parent / "spool"
    assert settings.ae_titles == ("MS44",)
    assert settings.plain_listener is None
    assert settings.modalities[0].ae_title == "US3"


def test_the_readme_names_every_key(file: Path) -> None:
    keys = {"certificate", "key", "ca", "ae_titles", "spool", "parallel", "central", "listener"}
    assert keys <= set(Settings.model_fields)
    assert all(key in README.read_text() for key in (*keys, "plain_listener", "modalities"))


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
