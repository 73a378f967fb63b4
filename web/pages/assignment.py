"""Who is to read a case and how soon, said on its page by whoever may assign it."""

from kernel.errors import Invalid
from web.asked import Answer, Asked, Redirect
from web.pages import case
from wire.access.v1 import access_pb2 as pb

PRIORITIES = {"normal": pb.PRIORITY_NORMAL, "urgent": pb.PRIORITY_URGENT, "stat": pb.PRIORITY_STAT}


async def assign(asked: Asked) -> Answer:
    """Assigns the case to whoever asks."""
    case_id = case.id_of(asked.path["case_id"])
    login = asked.signed_in.person.login
    await asked.house.services.access.Assign(pb.AssignRequest(case_id=case_id, assignee_login=login))
    return Redirect(f"/cases/{case_id}")


async def unassign(asked: Asked) -> Answer:
    """Ends the assignment."""
    case_id = case.id_of(asked.path["case_id"])
    await asked.house.services.access.Unassign(pb.UnassignRequest(case_id=case_id))
    return Redirect(f"/cases/{case_id}")


async def set_priority(asked: Asked) -> Answer:
    """Says how soon the case is to be read."""
    case_id = case.id_of(asked.path["case_id"])
    priority = PRIORITIES.get(asked.form.get("priority", ""))
    if priority is None:
        raise Invalid("choose how soon the case is to be read: normal, urgent or stat")
    await asked.house.services.access.SetPriority(pb.SetPriorityRequest(case_id=case_id, priority=priority))
    return Redirect(f"/cases/{case_id}")
