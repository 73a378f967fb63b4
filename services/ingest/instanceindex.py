"""The statement that indexes an instance, and the index as the thread that received the bytes asks it."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime

from kernel.ids import StudyId
from plumbing.lines import Lines, Value
from services.ingest.domain import Sender, StoredInstance, Verdict
from services.ingest.parts import DESCRIBED, MOST, Description

INDEX = """
    select verdict, live_study_id from file_instance(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18::jsonb, $19, $20,
        $21, $22)
"""
"""The functions in 0014 and 0012 decide (R1, R4, A26)."""


class Index:
    """The index, as the thread of an association asks it."""

    def __init__(self, lines: Lines) -> None:
        """`lines` are of the statement INDEX."""
        self._lines = lines

    def receive(
        self,
        study_id: StudyId,
        sender: Sender,
        stored: StoredInstance,
        digest: bytes,
        now: datetime,
        sync: Callable[[], None],
    ) -> Verdict:
        """Indexes an instance of a study and a part that the index knows, once `sync` has returned (R1).

        PostgreSQL decides meanwhile, and commits only then. Where `sync` raises, nothing is committed.

        Raises Unavailable, as where the pack was sealed or the study purged meanwhile: what was committed is
        not known then.
        """
        values = parameters(study_id, sender, stored, digest, None, now, create=False)
        with self._lines.begin(values) as begun:
            sync()
            verdict, _ = begun.commit()
        return Verdict((verdict or b"").decode())


def parameters(
    study_id: StudyId,
    sender: Sender,
    stored: StoredInstance,
    digest: bytes,
    told: str | None,
    now: datetime,
    *,
    create: bool,
) -> Sequence[Value]:
    """The parameters of INDEX; `told` as `told_to_the_index` says, None for a part that is described."""
    instance, place = stored.instance, stored.place
    return (
        study_id,
        create,
        sender.receiving_facility_id,
        instance.study_instance_uid,
        sender.gateway_id,
        sender.calling_ae_title,
        instance.series_instance_uid,
        instance.sop_instance_uid,
        instance.sop_class_uid,
        instance.transfer_syntax_uid,
        stored.sha256,
        place.pack_id,
        place.offset,
        place.prefix_length,
        place.data_set_length,
        place.end,
        digest,
        told,
        now,
        sender.began(now),
        stored.layout.head_length,
        stored.layout.pixel_offset,
    )


def told_to_the_index(description: Description) -> str:
    """The description as `describe_part` takes it."""
    return json.dumps(
        {
            "study": description.study,
            "series": description.series,
            "mapping": description.mapping,
            "identity": description.identity,
            "most": MOST,
            "described": DESCRIBED,
        }
    )
