"""Sample objects: real ones that pydicom's wheel ships, and a synthetic CT for size.

Several files of the wheel are variants of one object under one SOP Instance UID. `CATALOGUE` is chosen so
that every UID in it occurs once; `CONFLICTING` is a variant of one of them, other bytes under the same
UID, for whoever wants to see it refused (R4).
"""

import hashlib
import uuid
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, isqrt, sin
from pathlib import Path
from random import Random

import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

WHEEL = Path(pydicom.__file__).parent / "data" / "test_files"
"""Where pydicom's wheel keeps its objects."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A real object of the wheel.

    Attributes:
        kind: what it shows, in the words of a radiographer.
        file: its name in the wheel.
    """

    kind: str
    file: str

    @property
    def path(self) -> Path:
        return WHEEL / self.file


CATALOGUE: tuple[Sample, ...] = (
    Sample("CT", "CT_small.dcm"),
    Sample("MR", "MR_small.dcm"),
    Sample("MR with overlay", "examples_overlay.dcm"),
    Sample("ultrasound", "examples_rgb_color.dcm"),
    Sample("ultrasound, palette colour", "examples_palette.dcm"),
    Sample("ultrasound, JPEG baseline, 30 frames", "examples_ybr_color.dcm"),
    Sample("ultrasound, big endian", "ExplVR_BigEnd.dcm"),
    Sample("ultrasound, JPEG 2000 lossless", "examples_jpeg2k.dcm"),
    Sample("nuclear medicine, JPEG 2000", "JPEG2000.dcm"),
    Sample("nuclear medicine, JPEG extended", "JPEG-lossy.dcm"),
    Sample("secondary capture, RLE, 2 frames", "SC_rgb_rle_2frame.dcm"),
    Sample("secondary capture, implicit VR", "SC_rgb_jpeg_dcmd.dcm"),
    Sample("secondary capture, deflated", "image_dfl.dcm"),
    Sample("segmentation", "liver_1frame.dcm"),
    Sample("structured report", "reportsi.dcm"),
    Sample("structured report, comprehensive", "test-SR.dcm"),
    Sample("electrocardiogram", "waveform_ecg.dcm"),
)
"""One of each kind; no SOP Instance UID twice."""

JPEG_LS = Sample("MR, JPEG-LS lossless", "MR_small_jpeg_ls_lossless.dcm")
"""Same SOP Instance UID as the MR of the catalogue: no conflict at another receiving facility."""

CONFLICTING = Sample("MR, big endian", "MR_small_bigendian.dcm")
"""Same SOP Instance UID as the MR of the catalogue, other bytes: refused where that one was received (R4)."""


def sample(kind: str) -> Sample:
    """The object of the catalogue of this kind."""
    return next(s for s in CATALOGUE if s.kind == kind)


def uid(*names: object) -> UID:
    """A UID of our own that depends on nothing but `names` (PS3.5 B.2: 2.25 and a UUID)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(map(str, names))).int}")


def dataset_bytes(path: Path) -> bytes:
    """The data set of a Part 10 file, as it travels: without preamble and file meta (PS3.10 7.1)."""
    content = path.read_bytes()
    if content[128:132] != b"DICM":
        raise ValueError(f"{path} has no DICM prefix")
    # (0002,0000) comes first: tag, VR UL, length 4, then how many bytes of group 2 follow it (PS3.10 7.1).
    return content[144 + int.from_bytes(content[140:144], "little") :]


def digest(path: Path) -> str:
    """SHA-256 of the data set of a Part 10 file, hexadecimal."""
    return hashlib.sha256(dataset_bytes(path)).hexdigest()


def dataset_of(path: Path) -> Dataset:
    """The data set of a Part 10 file, without its pixels."""
    return pydicom.dcmread(path, stop_before_pixels=True)


def written_as(source: Path, to: Path, **elements: str) -> Path:
    """A copy of an object with some elements set, in the transfer syntax it has.

    Encapsulated pixels get the VR they must have (PS3.5 A.4), which some files of the wheel lack.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.dcmread(source)
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset["PixelData"].VR = "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if "SOPInstanceUID" in elements:
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(elements["SOPInstanceUID"])
    if "SOPClassUID" in elements:
        dataset.file_meta.MediaStorageSOPClassUID = UID(elements["SOPClassUID"])
    dataset.save_as(to, enforce_file_format=True)
    return to


@dataclass(frozen=True, slots=True)
class SyntheticCT:
    """A CT of invented anatomy for an invented patient: the same bytes for the same values, always.

    The water phantom is round, 0 HU with noise, and has a dense rod that winds through the slices.
    """

    slices: int = 300
    size: int = 512
    name: str = "ct-ms44"
    patient_name: str = "Vermeer^Ada"
    patient_id: str = "MS44-0001"
    institution_name: str | None = "MS44"
    study_description: str = "CT chest"

    @property
    def study_instance_uid(self) -> UID:
        return uid(self.name, "study")

    @property
    def series_instance_uid(self) -> UID:
        return uid(self.name, "series")

    def write(self, folder: Path) -> list[Path]:
        """Writes the slices into `folder`, which is made, and answers their paths in order."""
        folder.mkdir(parents=True, exist_ok=True)
        dataset = self._dataset()
        paths = []
        for number, pixels in enumerate(self._pixels(), start=1):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid(self.name, number)
            dataset.InstanceNumber = number
            dataset.SliceLocation = float(number)
            dataset.ImagePositionPatient = [-180.0, -180.0, float(number)]
            dataset.PixelData = pixels
            paths.append(folder / f"{number:04}.dcm")
            dataset.save_as(paths[-1], enforce_file_format=True)
        return paths

    def _dataset(self) -> Dataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset("", {}, preamble=bytes(128), file_meta=meta)
        for keyword, value in {
            "SpecificCharacterSet": "ISO_IR 192",
            "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
            "SOPClassUID": CTImageStorage,
            "StudyDate": "20260302",
            "SeriesDate": "20260302",
            "StudyTime": "091500",
            "AccessionNumber": "A44-17",
            "Modality": "CT",
            "Manufacturer": "Readroom phantom",
            "InstitutionName": self.institution_name,
            "ReferringPhysicianName": "Okafor^Ben",
            "StudyDescription": self.study_description,
            "SeriesDescription": "axial 1 mm",
            "PatientName": self.patient_name,
            "PatientID": self.patient_id,
            "PatientBirthDate": "19700131",
            "PatientSex": "F",
            "BodyPartExamined": "CHEST",
            "SliceThickness": "1.0",
            "KVP": "120",
            "StudyInstanceUID": self.study_instance_uid,
            "SeriesInstanceUID": self.series_instance_uid,
            "StudyID": "1",
            "SeriesNumber": "1",
            "FrameOfReferenceUID": uid(self.name, "frame of reference"),
            "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "Rows": self.size,
            "Columns": self.size,
            "PixelSpacing": [0.7, 0.7],
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
        }.items():
            if value is not None:
                setattr(dataset, keyword, value)
        return dataset

    def _pixels(self) -> Iterator[bytes]:
        size, centre, radius = self.size, self.size // 2, self.size * 0.4
        random = Random(self.name)
        # One long row of noise; each line of each slice takes another stretch of it.
        noise = array("h", (random.randrange(-20, 20) for _ in range(size * 4)))
        rod = array("h", [1200]) * (size // 32)
        halves = [isqrt(int(max(radius**2 - (y - centre) ** 2, 0))) for y in range(size)]
        for number in range(self.slices):
            image = array("h", [-1000]) * (size * size)
            for y, half in enumerate(halves):
                stretch = (y * 7 + number * 13) % (size * 3)
                left = y * size + centre - half
                image[left : left + 2 * half] = noise[stretch : stretch + 2 * half]
            x, y = (int(centre + radius / 2 * f(number / 20)) for f in (cos, sin))
            for line in range(y, y + len(rod)):
                image[line * size + x : line * size + x + len(rod)] = rod
            yield image.tobytes()
