"""Compares what a user fetched with what the modality sent."""

from collections.abc import Iterable
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info

from demo.dicom_files import dataset_of, digest


def by_uid(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by the SOP Instance UID of their data sets."""
    return {str(dataset_of(path).SOPInstanceUID): path for path in paths}


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same data set, byte for byte, in the same transfer syntax."""
    syntaxes = {read_file_meta_info(path).TransferSyntaxUID for path in (one, other)}
    return len(syntaxes) == 1 and digest(one) == digest(other)


def same_elements(one: Path, other: Path) -> bool:
    """Whether two files hold the same data set, element for element.

    Data Set Trailing Padding says nothing (PS3.10 7.2), and some senders leave it out.
    """
    datasets = [pydicom.dcmread(path) for path in (one, other)]
    for dataset in datasets:
        dataset.pop("DataSetTrailingPadding", None)
    return datasets[0] == datasets[1]
