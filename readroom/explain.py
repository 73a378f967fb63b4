"""Why a user sees a case or does not, in words that a help desk can read aloud."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from readroom import names
from readroom.acting import listing
from readroom.client import Readroom
from readroom.pages import every
from readroom.show import NO, YES, Column, Output, clock, instant
from readroom.words import HISTORICAL, LEVELS, OBSTACLES, PARTS, PATHS, REASONS_OF_SIGHT, ROLES, TRUTHS
from wire.access.v1.access_pb2 import (
    HISTORICAL_UNSPECIFIED,
    LEVEL_UNSPECIFIED,
    PATH_FOLDER,
    PATH_GRANT,
    PATH_HISTORICAL,
    PATH_PRIVILEGE,
    PATH_SHARE,
    TRUTH_FALSE,
    TRUTH_TRUE,
    TRUTH_UNKNOWN,
    ExplainedClause,
    ExplainedFacility,
    ExplainedFilter,
    ExplainedPath,
    ExplainListRequest,
    ExplainRequest,
    Explanation,
)

_MARGIN = max(len(word) for word in PATHS.sayable) + 2

_HIDDEN_BECAUSE = {
    Explanation.OBSTACLE_DEACTIVATED: "the account is deactivated, so nothing is shown to them",
    Explanation.OBSTACLE_BEING_DELETED: "the case is being deleted, so it is shown to nobody",
    Explanation.OBSTACLE_BEING_MOVED: "the case is on its way to another facility, so it is shown to nobody",
}

FACILITY = (
    Column[ExplainedFacility]("facility", lambda f: f.facility_name),
    Column[ExplainedFacility]("level", lambda f: LEVELS.word(f.level)),
    Column[ExplainedFacility]("cases", lambda f: f"more than {f.cases}" if f.has_more else str(f.cases)),
    Column[ExplainedFacility]("shown", lambda f: f.shown),
    Column[ExplainedFacility]("hidden_by_filter", lambda f: f.hidden_by_filter),
    Column[ExplainedFacility]("counted", lambda f: f.cases, json_only=True),
    Column[ExplainedFacility]("facility_id", lambda f: f.facility_id, json_only=True),
)


@click.command("explain")
@click.argument("user")
@click.argument("case_id", required=False)
@listing
async def explain_case(readroom: Readroom, out: Output, user: str, case_id: str | None) -> None:
    """Explain why USER sees a case, or does not.

    Without a case: how many cases USER sees at each facility that you administer, and how many their filter
    hides.
    """
    user_id = await names.user_id(readroom, user)
    if case_id is None:
        asked = ExplainListRequest(user_id=user_id)
        found = every(readroom.access.ExplainList, asked, lambda page: page.facilities)
        out.items(FACILITY, [facility async for facility in found])
        return
    request = ExplainRequest(user_id=user_id, case_id=case_id)
    told = (await readroom.access.Explain(request)).explanation
    out.told(lines(told), as_object(told))


def lines(told: Explanation) -> Iterator[str]:
    """One line for the answer, one for each path, and what is missing beside sight."""
    who = f"{told.user.name} (`{told.user.login}`, {ROLES.word(told.user.role)})"
    of = f"case {told.case_id} of {_facility(told)}, at {clock(instant(told.at))}"
    if told.decision.allowed:
        yield f"{YES} {who} sees {of}: they may {LEVELS.word(told.decision.level)}"
    else:
        yield f"{NO} {who} does not see {of}"
    if told.obstacle:
        yield _line(NO, "", _HIDDEN_BECAUSE.get(told.obstacle, OBSTACLES.word(told.obstacle)))
    for path in told.paths:
        mark = YES if path.reason == ExplainedPath.REASON_OPEN else NO
        yield _line(mark, PATHS.word(path.path), _why(told, path))
        if path.path == PATH_PRIVILEGE and told.HasField("filter"):
            yield from _filter(told.filter)
    if told.decision.allowed:
        for what, is_shown, permission, is_held in (
            ("images", told.decision.images, "study.view_images", told.holds_view_images),
            ("reports", told.decision.reports, "report.view", told.holds_report_view),
        ):
            yield _line(YES if is_shown else NO, what, _shown_by(permission, is_shown, is_held))


def _line(mark: str, what: str, why: str) -> str:
    return f"  {mark} {what:<{_MARGIN}}{why}"


def _facility(told: Explanation) -> str:
    return f"`{told.facility_name or told.facility_id}`"


def _why(told: Explanation, path: ExplainedPath) -> str:
    if path.reason == ExplainedPath.REASON_ROLE:
        return f"the role {ROLES.word(told.user.role)} opens no case by any path"
    return _WHY[path.path](told, path) if path.path in _WHY else REASONS_OF_SIGHT.word(path.reason)


def _privilege(told: Explanation, path: ExplainedPath) -> str:
    privilege = told.privilege
    if privilege.level == LEVEL_UNSPECIFIED:
        return f"they have no privilege at {_facility(told)}"
    said = f"{LEVELS.word(privilege.level)} at {_facility(told)}"
    now = LEVELS.word(privilege.effective_level)
    if privilege.HasField("expires_at"):
        end = instant(privilege.expires_at)
        is_over = end <= instant(told.at)
        said += f", which {'expired' if is_over else 'expires'} at {clock(end)}"
        if not is_over:
            said += f" and is {LEVELS.word(told.reverts_to)} from then on"
    if told.role_ceiling < privilege.level:
        said += f"; the role {ROLES.word(told.user.role)} has {LEVELS.word(told.role_ceiling)} at most"
    return said if now == LEVELS.word(privilege.level) else f"{said}: now {now}"


def _filter(told: ExplainedFilter) -> Iterator[str]:
    """The clauses of a filter, each with its truth, the value of the case and what nearly showed it."""
    if told.broken:
        yield _line(NO, "", "their filter no longer parses, so it hides everything: save another")
        return
    shows = bool(told.clauses) and told.clauses[0].truth == TRUTH_TRUE
    yield _line(_MARKS[shows], "", f"their filter {'shows' if shows else 'hides'} the case")
    for clause in told.clauses:
        indent = "  " * clause.depth
        yield _line(" ", "", f"{indent}{_MARK.get(clause.truth, '?')} {_clause(clause, told.values_shown)}")
        for near in clause.near_misses:
            yield _line(" ", "", f"{indent}  it would be visible with {near}")
    if told.clauses_left_out:
        yield _line(" ", "", f"and {told.clauses_left_out} clauses more")
    if not told.values_shown:
        yield _line(" ", "", "you do not see the case yourself, so you are told none of its values")


def _clause(clause: ExplainedClause, values_shown: bool) -> str:
    said = _JOINED.get(clause.part, clause.text)
    if clause.part != ExplainedClause.PART_PREDICATE:
        return said
    if clause.values:
        more = f" and {clause.values_left_out} more" if clause.values_left_out else ""
        return f"{said}: {', '.join(clause.values)}{more}"
    if clause.truth == TRUTH_UNKNOWN:
        return f"{said}: unknown, because the case does not have it"
    return f"{said}: the case has none" if values_shown else said


_MARKS = {True: YES, False: NO}
_MARK: dict[int, str] = {TRUTH_TRUE: YES, TRUTH_FALSE: NO, TRUTH_UNKNOWN: "?"}
_JOINED: dict[int, str] = {
    ExplainedClause.PART_ALL: "all of",
    ExplainedClause.PART_ANY: "any of",
    ExplainedClause.PART_NOT: "not",
}


def _historical(told: Explanation, path: ExplainedPath) -> str:
    if path.reason == ExplainedPath.REASON_OPEN:
        return "another study of the patient passes their filter, which opens this one, to view"
    if not told.HasField("filter"):
        return "they have no filter, so it opens nothing more"
    if told.filter.historical == HISTORICAL_UNSPECIFIED:
        return "their filter opens no other studies of a patient"
    return "no study of the patient passes their filter that would open this one"


def _grant(told: Explanation, path: ExplainedPath) -> str:
    if path.reason == ExplainedPath.REASON_OPEN:
        return "the case is granted to them, to view"
    return "the case is not granted to them"


def _folder(told: Explanation, path: ExplainedPath) -> str:
    if path.reason != ExplainedPath.REASON_OPEN:
        return "no folder that they are a member of holds it"
    named = [f"`{name}`" for name in path.folder_names]
    if path.folders_left_out:
        others = "others" if path.folders_left_out > 1 else "another"
        named.append(others if named else {"others": "folders", "another": "a folder"}[others])
    return f"{' and '.join(named)} of which they are a member holds it, to view"


def _share(told: Explanation, path: ExplainedPath) -> str:
    until = f" until {clock(instant(path.ends_at))}" if path.HasField("ends_at") else ""
    to_write = ", with write access to the report" if path.may_write else ""
    return {
        ExplainedPath.REASON_OPEN: f"a share shows it{until}{to_write}",
        ExplainedPath.REASON_CODE: (
            f"a share shows it{until}{to_write}, but only in sessions in which they have entered its code"
        ),
        ExplainedPath.REASON_CLOSED: "a share holds it that is blocked or revoked",
        ExplainedPath.REASON_ENDED: f"a share held it{until}",
    }.get(path.reason, "no share to them holds it")


_WHY = {
    PATH_PRIVILEGE: _privilege,
    PATH_GRANT: _grant,
    PATH_FOLDER: _folder,
    PATH_SHARE: _share,
    PATH_HISTORICAL: _historical,
}


def _shown_by(permission: str, is_shown: bool, is_held: bool) -> str:
    if is_held:
        return f"they hold `{permission}` there"
    return f"they lack `{permission}` there{', but a share carries them' if is_shown else ''}"


def as_object(told: Explanation) -> Mapping[str, Any]:
    """The trace for machines."""
    privilege = told.privilege
    return {
        "user": told.user.login,
        "case_id": told.case_id,
        "facility": told.facility_name,
        "facility_id": told.facility_id,
        "at": instant(told.at),
        "sees": told.decision.allowed,
        "level": LEVELS.word(told.decision.level),
        "images": told.decision.images,
        "reports": told.decision.reports,
        "obstacle": OBSTACLES.word(told.obstacle) or None,
        "privilege": {
            "level": LEVELS.word(privilege.level),
            "effective_level": LEVELS.word(privilege.effective_level),
            "expires_at": instant(privilege.expires_at) if privilege.HasField("expires_at") else None,
            "reverts_to": LEVELS.word(told.reverts_to),
            "role": ROLES.word(told.user.role),
            "role_ceiling": LEVELS.word(told.role_ceiling),
        },
        "filter": _filter_object(told.filter) if told.HasField("filter") else None,
        "paths": [
            {
                "path": PATHS.word(path.path),
                "open": path.reason == ExplainedPath.REASON_OPEN,
                "reason": REASONS_OF_SIGHT.word(path.reason),
                "ends_at": instant(path.ends_at) if path.HasField("ends_at") else None,
                "folders": list(path.folder_names),
                "folders_left_out": path.folders_left_out,
                "may_write": path.may_write,
                "why": _why(told, path),
            }
            for path in told.paths
        ],
    }


def _filter_object(told: ExplainedFilter) -> Mapping[str, Any]:
    return {
        "shows": bool(told.clauses) and told.clauses[0].truth == TRUTH_TRUE,
        "broken": told.broken,
        "historical": HISTORICAL.word(told.historical),
        "values_shown": told.values_shown,
        "clauses": [
            {
                "part": PARTS.word(clause.part),
                "depth": clause.depth,
                "truth": TRUTHS.word(clause.truth),
                "text": clause.text or None,
                "values": list(clause.values),
                "values_left_out": clause.values_left_out,
                "near_misses": list(clause.near_misses),
            }
            for clause in told.clauses
        ],
        "clauses_left_out": told.clauses_left_out,
    }


COMMANDS = (explain_case,)
