"""What a person chooses for themself, and where they are signed in."""

from uuid import UUID

from kernel.errors import Invalid, NotFound
from kernel.ids import parse_id
from web.asked import Answer, Asked, Page, Redirect
from web.domain import DENSITIES, THEMES, Preferences
from web.pages import sessions


async def show(asked: Asked) -> Answer:
    """Theme, density, keys, and their own sessions."""
    own = await asked.house.sessions.of(asked.signed_in)
    values = {"sessions": own, "themes": THEMES, "densities": DENSITIES}
    return Page("profile/page.html", {**values, "administers": await sessions.may_administer(asked)})


async def save(asked: Asked) -> Answer:
    """Saves how they like their pages."""
    chosen = Preferences(
        asked.form.get("theme", ""), asked.form.get("density", ""), asked.form.get("keys") == "on"
    )
    if chosen.theme not in THEMES or chosen.density not in DENSITIES:
        raise Invalid("choose one of the themes, and one of the densities")
    async with asked.house.database.statements() as tx:
        await tx.save_preferences(asked.signed_in.person.user_id, chosen)
    return Redirect("/profile")


async def end_session(asked: Asked) -> Answer:
    """Ends one of their own sessions; that of this browser is signed out."""
    session_id: UUID = parse_id(asked.form.get("session_id", ""), "session_id")
    if not await asked.house.sessions.end(asked.signed_in, session_id):
        raise NotFound("this session has ended already, or there never was one")
    if session_id == asked.signed_in.session_id:
        asked.house.mint.forget(asked.signed_in)
        return Redirect("/sign-in", signs_out=True)
    return Redirect("/profile")


async def end_all_sessions(asked: Asked) -> Answer:
    """Signs the person out everywhere, here too."""
    person = asked.signed_in.person
    await asked.house.sessions.end_all(person.user_id, person.login)
    asked.house.mint.forget(asked.signed_in)
    return Redirect("/sign-in", signs_out=True)
