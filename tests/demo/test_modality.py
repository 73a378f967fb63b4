"""The demo's modalities and witness, which must not err when they say that something is the same."""

from pathlib import Path

import pytest

from demo import comparing
from demo.dicom_files import CATALOGUE, CONFLICTING, JPEG_LS, SyntheticCT, dataset_of, digest, written_as
from demo.modality import Modality, PynetdicomModality, Refused, modality, witness


@pytest.fixture(params=["pynetdicom", "of this machine"])
def sender(request: pytest.FixtureRequest) -> Modality:
    return PynetdicomModality("MODALITY") if request.param == "pynetdicom" else modality("MODALITY")


def test_every_object_of_the_catalogue_travels_in_its_own_transfer_syntax(
    tmp_path: Path, sender: Modality
) -> None:
    paths = [sample.path for sample in CATALOGUE]
    sent = []

    with witness(tmp_path) as called:
        sender.send(paths, called, lambda: sent.append(1))

    originals, copies = comparing.by_uid(paths), comparing.by_uid(tmp_path.iterdir())
    assert len(sent) == len(CATALOGUE) == len(originals)
    assert originals.keys() == copies.keys()
    assert all(comparing.same_elements(originals[uid], copies[uid]) for uid in originals)
    syntaxes = [
        {path.name: dataset_of(path).file_meta.TransferSyntaxUID for path in (originals[u], copies[u])}
        for u in copies
    ]
    assert all(len(set(pair.values())) == 1 for pair in syntaxes)


def test_pynetdicom_sends_the_bytes_of_the_file(tmp_path: Path) -> None:
    paths = [sample.path for sample in CATALOGUE]

    with witness(tmp_path) as called:
        PynetdicomModality("MODALITY").send(paths, called, lambda: None)

    assert {digest(path) for path in paths} == {digest(path) for path in tmp_path.iterdir()}


def test_nobody_listening_is_a_refusal(tmp_path: Path, sender: Modality) -> None:
    with witness(tmp_path) as called:
        pass

    with pytest.raises(Refused):
        sender.send([CATALOGUE[0].path], called, lambda: None)


def test_differences_are_seen(tmp_path: Path) -> None:
    original = CATALOGUE[1].path
    renamed = written_as(original, tmp_path / "renamed.dcm", PatientName="Castell^Marta")

    assert not comparing.same_elements(original, renamed)
    assert not comparing.same_bytes(original, renamed)
    assert comparing.same_elements(original, original)
    assert not comparing.same_bytes(original, CONFLICTING.path)


def test_the_catalogue_has_each_object_once_and_two_variants_of_one() -> None:
    datasets = [dataset_of(sample.path) for sample in CATALOGUE]
    uids = [dataset.SOPInstanceUID for dataset in datasets]

    assert len(set(uids)) == len(uids)
    assert uids == [dataset.file_meta.MediaStorageSOPInstanceUID for dataset in datasets]
    assert {dataset_of(variant.path).SOPInstanceUID for variant in (CONFLICTING, JPEG_LS)} <= set(uids)
    assert len({digest(s.path) for s in (CONFLICTING, JPEG_LS, CATALOGUE[1])}) == 3


def test_the_synthetic_ct_is_the_same_bytes_always(tmp_path: Path) -> None:
    study = SyntheticCT(slices=3, size=64)

    one, other = study.write(tmp_path / "one"), study.write(tmp_path / "other")

    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    assert len({digest(path) for path in one}) == 3
