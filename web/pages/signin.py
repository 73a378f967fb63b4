"""Sign in, choose a password with an invitation, lock, unlock, sign out."""

from dataclasses import replace

from kernel.errors import Exhausted, Invalid, NotFound, Unauthenticated
from web import errors, signing
from web.asked import Answer, Asked, Page, Redirect
from web.issuer import DevelopmentIssuer
from web.pages import provider

_DIFFER = "the two passwords differ: type the same one twice"


async def show(asked: Asked) -> Answer:
    """The form for login and password. A browser without a session forgets what the one before it saw."""
    form = _form(asked.query.get("to", ""))
    return form if asked.session else replace(form, forgets="all")


async def sign_in(asked: Asked) -> Answer:
    """Begins a session; one that this browser had before ends."""
    login, to = asked.form.get("login", "").strip(), asked.form.get("to", "")
    try:
        person = await _passwords(asked).sign_in(login, asked.form.get("password", ""), asked.address)
    except (Unauthenticated, Exhausted) as error:
        return _form(to, login, error.sentence, errors.told(error).status)
    return await signing.begun(asked, person, signing.back_to(to) or "/")


async def show_welcome(asked: Asked) -> Answer:
    """The form for the code of an invitation, and the first password where people have one."""
    return await provider.welcome(asked) if asked.house.entrance else _welcome()


async def welcome(asked: Asked) -> Answer:
    """Binds whoever shows the code to its user, and signs them in."""
    if asked.house.entrance:
        return await provider.bind(asked)
    code, password = asked.form.get("code", "").strip(), asked.form.get("password", "")
    try:
        if password != asked.form.get("again", ""):
            raise Invalid(_DIFFER)
        person = await _passwords(asked).accept(code, password, asked.address)
    except (Invalid, Unauthenticated, Exhausted) as error:
        return _welcome(code, error.sentence, errors.told(error).status)
    await asked.house.sessions.end_all(person.user_id, person.login)  # whoever knew the old password, too
    return await signing.begun(asked, person, "/")


async def lock(asked: Asked) -> Answer:
    """Locks the session: the person leaves their desk."""
    await asked.house.sessions.lock(asked.signed_in)
    asked.house.mint.forget(asked.signed_in)
    return signing.locked()


async def unlock(asked: Asked) -> Answer:
    """Unlocks it for the same person, under a new secret."""
    try:
        await _passwords(asked).prove(asked.signed_in, asked.form.get("password", ""), asked.address)
    except (Unauthenticated, Exhausted) as error:
        return signing.locked(error.sentence)
    unlocked = await asked.house.sessions.unlock(asked.signed_in)
    return Redirect("/", secret=unlocked[1]) if unlocked else Redirect("/sign-in")


async def sign_out(asked: Asked) -> Answer:
    """Ends the session; the browser forgets what it kept of us."""
    await asked.house.sessions.end(asked.signed_in, asked.signed_in.session_id)
    asked.house.mint.forget(asked.signed_in)
    return Redirect("/sign-in", signs_out=True)


def _passwords(asked: Asked) -> DevelopmentIssuer:
    if asked.house.issuer is None:
        raise NotFound("people sign in here through a provider, not with passwords")
    return asked.house.issuer


def _form(to: str, login: str = "", problem: str = "", status: int = 200) -> Page:
    values = {"to": signing.back_to(to), "login": login[:100], "problem_text": problem}
    return Page("signin/page.html", values, status)


def _welcome(code: str = "", problem: str = "", status: int = 200) -> Page:
    return Page("signin/welcome.html", {"code": code[:100], "problem_text": problem}, status)
