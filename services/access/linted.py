"""AccessService: what a filter would do, proto to domain and back."""

from kernel.errors import Invalid
from services.access import answers
from services.access.filter.faults import FilterError, place
from services.access.filter.form import kept
from services.access.filter.lint import Caution
from services.access.linting import Linted
from wire.access.v1 import access_pb2 as pb


def a_lint(found: Linted, expression: str) -> pb.LintResponse:
    if found.fault:
        return pb.LintResponse(fault=a_fault(found.fault))
    counted = found.counted
    return pb.LintResponse(
        reading=found.reading,
        cautions=[_a_caution(each, expression) for each in found.cautions],
        form_expression=found.form_says,
        offered_form=answers.a_form(kept(found.offered)) if found.offered else None,
        tried_on=counted.cases if counted else 0,
        tried_on_all=counted.are_all if counted else False,
        shown=counted.shown if counted else 0,
        samples=map(answers.a_case, found.samples),
    )


def a_fault(fault: Invalid) -> pb.FilterFault:
    """Why a filter is refused."""
    if not isinstance(fault, FilterError):
        return pb.FilterFault(field=fault.field or "", problem=fault.sentence)
    return pb.FilterFault(
        field="expression",
        line=fault.line,
        column=fault.column,
        length=fault.span.end - fault.span.start,
        picture=fault.picture,
        problem=fault.problem,
        expected=fault.expected,
        repaired=fault.repaired or "",
    )


def _a_caution(caution: Caution, expression: str) -> pb.FilterCaution:
    line, column = place(expression, caution.span.start)
    return pb.FilterCaution(
        line=line,
        column=column,
        length=caution.span.end - caution.span.start,
        sentence=caution.sentence,
    )
