"""Snapshots in the form of the contract: of received studies, and of what else is asked and told."""

import hashlib
from collections.abc import Mapping

from kernel.dicom import UID, parse_uid
from kernel.errors import Invalid
from kernel.ids import PackId, parse_id
from plumbing import pages
from plumbing.timestamps import timestamp
from services.ingest.domain import Instance, Place, StoredInstance, Study
from services.ingest.heldparts import HeldPart
from services.ingest.parts import MAX_MODALITIES, Part, StudyInParts
from services.ingest.quarantine import Quarantined
from services.ingest.volumes import Volume
from wire.ingest.v1 import ingest_pb2 as pb

MAX_LENGTH = 1 << 50
"""Of a pack; no file system holds a longer file."""


def received_study(study: Study) -> pb.Study:
    """The snapshot as the version before knows it."""
    return pb.Study(
        study_id=str(study.study_id),
        version=study.version,
        study_instance_uid=study.study_instance_uid,
        receiving_facility_id=str(study.receiving_facility_id),
        gateway_id=str(study.gateway_id),
        calling_ae_title=study.calling_ae_title,
        received_at=timestamp(study.received_at),
        settled=study.settled,
        attributes=study.attributes,
        series=[
            pb.Series(
                series_instance_uid=each.series_instance_uid,
                attributes=each.attributes,
                instance_count=each.instance_count,
                mapping_values=[
                    pb.MappingValue(keyword=value.keyword, value=value.value, ordinal=value.ordinal)
                    for value in each.mapping_values
                ],
            )
            for each in study.series
        ],
    )


def packed(request: pb.ReadPackRequest) -> StoredInstance:
    """The instance that a request names by its place; raises Invalid."""
    for field, most in (
        ("entry_offset", MAX_LENGTH),
        ("prefix_length", 1 << 16),
        ("data_set_length", MAX_LENGTH),
    ):
        if not 0 <= getattr(request, field) <= most:
            raise Invalid(f"`{field}` must lie between 0 and {most}", field=field)
    if len(request.sha256) != hashlib.sha256().digest_size:
        raise Invalid("`sha256` must have 32 bytes", field="sha256")
    unknown = UID("")
    return StoredInstance(
        Instance(unknown, parse_uid(request.sop_instance_uid, "sop_instance_uid"), unknown, unknown, unknown),
        request.sha256,
        Place(
            PackId(parse_id(request.pack_id, "pack_id")),
            request.entry_offset,
            request.prefix_length,
            request.data_set_length,
            0,
        ),
    )


def volume(kept: Volume) -> pb.Volume:
    """A volume as operators see it."""
    return pb.Volume(
        volume_id=str(kept.volume_id),
        made_at=timestamp(kept.made_at),
        holder_address=kept.holder_address or "",
        writers=kept.writers,
        files_to_remove=kept.files_to_remove,
        forgotten_at=timestamp(kept.forgotten_at),
    )


def study_in_parts(found: StudyInParts) -> pb.Study:
    """A page of the snapshot in parts; it ends early where the parts would not fit into one answer."""
    answer = received_study(found.study)
    answer.identities.extend(_identity(number, each) for number, each in found.identities.items())
    answer.attribute_sets.extend(
        pb.AttributeSet(number=number, attributes=each) for number, each in found.attribute_sets.items()
    )
    answer.series_instance_uids.extend(found.series_instance_uids)
    room = pages.MAX_PAGE_BYTES - answer.ByteSize()
    parts = pages.fitting(found.parts, _part, room)
    answer.parts.extend(parts)
    answer.more_parts = found.more or len(parts) < len(found.parts)
    return answer


def held_part(held: HeldPart) -> pb.HeldPart:
    """A part as a person sees it who has to decide on it."""
    study, patient = held.study, held.patient
    answer = pb.HeldPart(
        study_id=str(study.study_id),
        part=held.number,
        receiving_facility_id=str(study.receiving_facility_id),
        gateway_id=str(held.gateway.gateway_id),
        gateway_name=held.gateway.name,
        calling_ae_title=study.calling_ae_title,
        received_at=timestamp(study.received_at),
        instance_count=held.instance_count,
        mapping_tag=held.mapping_tag,
        mapping_values=held.mapping_values,
    )
    if patient is not None:
        answer.shows_patient = True
        answer.identities.extend(_identity(number, each) for number, each in patient.identities.items())
        answer.study_description = patient.attributes.get("StudyDescription", "")
        answer.study_date = patient.attributes.get("StudyDate", "")
        answer.modalities.extend(patient.modalities)
    return answer


def quarantined(kept: Quarantined) -> pb.Quarantined:
    """A refused instance of which the bytes are kept."""
    return pb.Quarantined(
        sha256=kept.sha256.hex(),
        gateway_id=str(kept.gateway_id),
        quarantined_at=timestamp(kept.quarantined_at),
        reason=kept.reason,
        sop_class_uid=kept.sop_class_uid,
        sop_instance_uid=kept.sop_instance_uid,
        study_instance_uid=kept.study_instance_uid,
        study_id=str(kept.study_id or ""),
        length=kept.length,
        pack_id=str(kept.pack_id or ""),
    )


def _identity(number: int, identity: Mapping[str, str]) -> pb.Identity:
    return pb.Identity(
        number=number,
        patient_id=identity.get("PatientID", ""),
        issuer_of_patient_id=identity.get("IssuerOfPatientID", ""),
        patient_name=identity.get("PatientName", ""),
        patient_birth_date=identity.get("PatientBirthDate", ""),
        patient_sex=identity.get("PatientSex", ""),
    )


def _part(part: Part) -> pb.Part:
    return pb.Part(
        number=part.number,
        identity=part.identity,
        mapping_values=part.mapping_values,
        attribute_set=part.attribute_set,
        modalities=part.modalities[:MAX_MODALITIES],
        modalities_left_out=max(0, len(part.modalities) - MAX_MODALITIES),
        series=part.series,
        instance_count=part.instance_count,
        received_at=timestamp(part.received_at),
        institution_names=part.institution_names.values,
        institution_names_left_out=part.institution_names.left_out,
        body_parts=part.body_parts.values,
        body_parts_left_out=part.body_parts.left_out,
        last_received_at=timestamp(part.last_received_at),
    )
