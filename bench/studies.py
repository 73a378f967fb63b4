"""Synthetic CT studies on disk: as many instances as asked, of the size asked, with UIDs of their own."""

import random
import uuid
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

# Rows and columns that make the instances of the promises: 526 kB and 39 kB with their attributes.
SIDE_526_KB = 512
SIDE_39_KB = 138
SIDE_1_KB = 8


def write_study(folder: Path, instances: int, side: int, series: int = 1) -> list[Path]:
    """Writes `instances` CT images of `side` x `side` 16-bit pixels of one study below `folder`.

    They come in turn from `series` series, each with a protocol name of its own, as an examination has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    noise = bytearray(random.Random(44).randbytes(2 * side * side))
    noise[1::2] = bytes(high & 0x0F for high in noise[1::2])  # 12 bits stored
    pixels = bytes(noise)
    study, uids = _uid(), [_uid() for _ in range(series)]
    paths = []
    for number in range(1, instances + 1):
        path = folder / f"{number:05}.dcm"
        image = _image(study, uids[number % series], number, side, pixels)
        image.SeriesNumber, image.ProtocolName = number % series, f"Protocol {number % series}"
        image.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _uid() -> str:
    """A UID derived from a UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def _image(study: str, series: str, number: int, side: int, pixels: bytes) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID(_uid())
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.StudyDate, image.StudyTime = "20260102", "101500"
    image.Modality, image.Manufacturer, image.InstitutionName = "CT", "Readroom bench", "Bench"
    image.StudyDescription, image.SeriesDescription = "Synthetic", "Noise"
    image.PatientName, image.PatientID = "Bench^Synthetic", "BENCH-1"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyInstanceUID, image.SeriesInstanceUID = study, series
    image.StudyID, image.InstanceNumber = "1", number
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = side
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels
    return image
