"""The form of a filter: what an administrator fills in, and the expression that it stands for (ACC-18, A14).

    referring physicians   any of them: contains, in any case         description words   all of them, likewise
    modalities, facilities any of them                                ages, study dates   from and to, both included

What is filled in is AND-ed. Form and advanced expression are kept apart and AND-ed too, so that each opens
again as it was; and an expression that says just what a form would say may be opened as that form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any
from uuid import UUID

from kernel.errors import Invalid
from services.access.filter.faults import FilterError
from services.access.filter.fields import FIELD_BY_NAME, Field, Operator
from services.access.filter.grammar import flat, parse
from services.access.filter.tree import (
    Age,
    And,
    Bound,
    Day,
    Expression,
    Literal,
    Or,
    Predicate,
    Text,
)
from services.access.filter.writing import write, write_literal


@dataclass(frozen=True, slots=True)
class Form:
    """What is filled in; empty: nothing is asked.

    Attributes:
        referring_physicians: parts of names, one a line of the form (ACC-18).
        age_from, age_to: as in `18Y`, of the patient at the study date.
        study_from, study_to: as in `2026-11-21`.
        facilities: by id.
    """

    referring_physicians: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    facilities: tuple[UUID, ...] = ()
    age_from: str = ""
    age_to: str = ""
    study_from: str = ""
    study_to: str = ""
    description_words: tuple[str, ...] = ()
