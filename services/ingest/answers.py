"""Snapshots of received studies in the form of the contract."""

from collections.abc import Mapping

from plumbing import pages
from plumbing.timestamps import timestamp
from services.ingest.domain import Study
from services.ingest.parts import Part, StudyInParts
from wire.ingest.v1 import ingest_pb2 as pb

MAX_MODALITIES = 32


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
    )
