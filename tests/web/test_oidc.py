"""Sign-in through a provider of identities that others wrote, and answers of a provider that lies."""

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import oidc_provider_mock
import pytest
import pytest_asyncio
from aiohttp import ClientSession, web
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from pydantic import SecretStr

from kernel.ids import UUID7
from local.embedded import EmbeddedServers
from local.pki import Pki
from tests.access.service import ADMIN, CLOCK, Service, serve
from tests.access.test_identity_service import identities
from tests.databases import Databases
from tests.ports import free_port
from tests.reporting.system import a_user
from tests.web.browser import Browser, Seen, browser
from tests.web.system import settings
from web.main import build
from web.oidc import LOGOUT_EVENT
from wire.access.v1 import access_pb2
from wire.access.v1.identity_pb2 import InviteRequest

CLIENT = "readroom"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Hall:
    """A web whose people come through a provider, and the access beside it."""

    origin: str
    access: Service

    async def code(self, login: str) -> str:
        """Invites somebody new."""
        facility = await self.access.facility(f"Facility of {login}")
        role, level = access_pb2.ROLE_RADIOLOGIST, access_pb2.LEVEL_REPORT
        user = await a_user(self.access, login, role, facility, level)
        invite = InviteRequest(user_id=user.user_id)
        return (await identities(self.access, ADMIN).Invite(invite)).code

    async def known(self, page: Browser, login: str, through: "_Through") -> None:
        """Somebody new comes the whole way: provider, invitation, session."""
        code = await self.code(login)
        assert (await through(page, login)).headers["Location"] == "/welcome"
        assert (await page.post("/welcome", code=code)).status == 303


class _Through:
    """Goes to the provider and comes back."""

    async def __call__(self, page: Browser, subject: str, **changed: str) -> Seen:
        """`changed` are parameters that somebody changes on the way there; with `back_` on the way back."""
        left = await page.get("/sign-in/start")
        there = _with(left.headers["Location"], changed)
        back = {key[5:]: value for key, value in changed.items() if key.startswith("back_")}
        async with page.http.post(there, data={"sub": subject}, allow_redirects=False) as answer:
            returned = urlsplit(_with(answer.headers["Location"], back))
        return await page.get(f"{returned.path}?{returned.query}")


def _with(address: str, changed: dict[str, str]) -> str:
    parts = urlsplit(address)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    query |= {key: value for key, value in changed.items() if not key.startswith("back_")}
    return parts._replace(query=urlencode(query)).geturl()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def access(servers: EmbeddedServers, clones: Databases, pki: Pki) -> AsyncIterator[Service]:
    async for served in serve(servers, clones.make("access"), pki):
        yield served


async def _hall(
    issuer: str, access: Service, url: str, pki: Pki, folder: Path, resources: AsyncExitStack
) -> Hall:
    chosen = settings(
        url,
        pki,
        folder,
        access_address=f"127.0.0.1:{access.port}",
        oidc_issuer=issuer,
        oidc_client_id=CLIENT,
        oidc_client_secret=SecretStr("a secret"),
    )
    await build(chosen, CLOCK, UUID7(CLOCK), resources)
    return Hall(chosen.origin, access)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hall(
    access: Service, clones: Databases, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Hall]:
    """Beside a provider that others wrote."""
    with oidc_provider_mock.run_server_in_thread() as provider:
        async with AsyncExitStack() as resources:
            issuer = f"http://localhost:{provider.server_port}"
            folder = tmp_path_factory.mktemp("web")
            yield await _hall(issuer, access, clones.make("web"), pki, folder, resources)


async def test_whoever_the_provider_names_is_invited_once_and_signs_in_from_then_on(hall: Hall) -> None:
    through, code = _Through(), await hall.code("vos")
    async with browser(hall.origin) as page:
        assert "Sign in with your account" in (await page.get("/sign-in")).words
        first = await through(page, "subject-of-vos")
        assert (first.status, first.headers["Location"]) == (303, "/welcome")
        assert page.secret == ""
        assert (await page.post("/welcome", code="A" * 64)).status == 401
        bound = await page.post("/welcome", code=code)
        assert (bound.status, bound.headers["Location"]) == (303, "/")
        assert "Dr Vos" in (await page.get("/profile")).words
        assert (await page.post("/sign-out")).status == 303

        again = await through(page, "subject-of-vos")
        assert (again.status, again.headers["Location"]) == (303, "/")
        assert "Dr Vos" in (await page.get("/profile")).words
    async with browser(hall.origin) as page:
        assert (await through(page, "subject-of-another")).headers["Location"] == "/welcome"
        assert (await page.post("/welcome", code=code)).status == 401  # it counted once


async def test_a_locked_session_is_unlocked_by_the_same_person_and_ends_for_another(hall: Hall) -> None:
    through = _Through()
    async with browser(hall.origin) as page:
        await hall.known(page, "lind", through)
        await page.get("/profile")
        assert (await page.post("/lock")).status == 401
        assert "Unlock with your account" in (await page.get("/profile")).words
        before = page.secret
        assert (await through(page, "lind")).headers["Location"] == "/"
        assert page.secret != before
        assert "Dr Lind" in (await page.get("/profile")).words

        await page.post("/lock")
        locked = page.secret
        assert (await through(page, "stranger")).headers["Location"] == "/welcome"
        assert page.secret == locked
        assert (await page.get("/profile")).status == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"back_state": "another"},
        {"back_code": "guessed"},
        {"back_error": "access_denied"},
        {"back_iss": "https://elsewhere.example"},
        {"nonce": "another"},
    ],
)
async def test_an_answer_that_was_changed_on_the_way_signs_nobody_in(
    hall: Hall, changed: dict[str, str]
) -> None:
    async with browser(hall.origin) as page:
        seen = await _Through()(page, "vos", **changed)

        assert (seen.status, page.secret) == (401, "")
        assert "begin again" in seen.words


async def test_an_answer_counts_once_and_in_the_browser_that_asked(hall: Hall) -> None:
    """Login CSRF: nobody is sent into the session of another, and an overheard code is worth nothing."""
    async with browser(hall.origin) as page, browser(hall.origin) as victim:
        left = await page.get("/sign-in/start")
        async with page.http.post(
            left.headers["Location"], data={"sub": "vos"}, allow_redirects=False
        ) as answer:
            returned = urlsplit(answer.headers["Location"])
        path = f"{returned.path}?{returned.query}"

        assert (await victim.get(path)).status == 401
        await victim.get("/sign-in/start")
        assert (await victim.get(path)).status == 401
        assert (await page.get(path)).status == 303
        assert (await page.get(path)).status == 401


async def test_whoever_guesses_codes_is_stopped_and_nobody_else(hall: Hall) -> None:
    code = await hall.code("moore")
    async with browser(hall.origin) as page, browser(hall.origin) as other:
        await _Through()(page, "guesser")
        guesses = [(await page.post("/welcome", code=f"{n:064}")).status for n in range(11)]
        assert guesses == [401] * 10 + [429]

        await _Through()(other, "moore")
        assert (await other.post("/welcome", code=code)).status == 303


async def test_a_subject_that_cannot_be_kept_is_said_so(hall: Hall) -> None:
    async with browser(hall.origin) as page:
        seen = await _Through()(page, "two words")

        assert (seen.status, page.secret) == (401, "")
        assert "tell your administrator" in seen.words


async def test_no_password_is_taken_where_a_provider_says_who_somebody_is(hall: Hall) -> None:
    async with browser(hall.origin) as page:
        assert (await page.post("/sign-in", login="vos", password="correct horse battery")).status == 404
        assert (await page.post("/welcome", code="A" * 64)).status == 401


# A provider that lies


@dataclass
class Liar:
    """A provider whose answers a test makes."""

    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "k1"}, auto_kid=False))
    issuer: str = ""
    header: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    signs_with: Any = None
    nonce: str = ""
    challenge: str = ""

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, **claims}
        said = {key: value for key, value in said.items() if value is not None}
        header = {"alg": "RS256", "kid": "k1", **self.header}
        key = self.signs_with or self.key
        return jwt.encode(header, said, key, algorithms=[header["alg"]])

    async def tokens(self, request: web.Request) -> web.Response:
        """Lies in what it says, and asks for what the standards want: verifier of PKCE and our secret."""
        verifier = str((await request.post())["code_verifier"]).encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        shown = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        if (challenge, shown) != (self.challenge, f"{CLIENT}:a+secret"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        base = {"sub": "vos-at-the-liar", "nonce": self.nonce, "auth_time": int(time.time())}
        return web.json_response({"id_token": self.token(**{**base, **self.claims})})

    async def metadata(self, _request: web.Request) -> web.Response:
        at = self.issuer
        return web.json_response(
            {
                "issuer": at,
                "authorization_endpoint": f"{at}/in",
                "token_endpoint": f"{at}/tokens",
                "jwks_uri": f"{at}/keys",
            }
        )

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.as_dict(private=False)]})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lying(
    access: Service, clones: Databases, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Hall, Liar]]:
    liar, port = Liar(), free_port()
    liar.issuer = f"http://127.0.0.1:{port}"
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", liar.metadata)
    app.router.add_get("/keys", liar.keys)
    app.router.add_post("/tokens", liar.tokens)
    async with AsyncExitStack() as resources:
        runner = web.AppRunner(app)
        await runner.setup()
        resources.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        folder = tmp_path_factory.mktemp("web")
        yield await _hall(liar.issuer, access, clones.make("web"), pki, folder, resources), liar


async def _answered(hall: Hall, liar: Liar, page: Browser) -> Seen:
    left = await page.get("/sign-in/start")
    asked = parse_qs(urlsplit(left.headers["Location"]).query)
    assert (asked["code_challenge_method"], asked["max_age"]) == (["S256"], ["0"])
    liar.nonce, liar.challenge = asked["nonce"][0], asked["code_challenge"][0]
    return await page.get(f"/sign-in/callback?code=any&state={asked['state'][0]}")


_SECRET = OctKey.import_key("a secret")


@pytest.mark.parametrize(
    ("header", "claims", "key"),
    [
        ({}, {"iss": "https://elsewhere.example"}, None),
        ({}, {"aud": "another"}, None),
        ({}, {"aud": ["another", CLIENT]}, None),
        ({}, {"aud": [CLIENT], "azp": "another"}, None),
        ({}, {"nonce": "another"}, None),
        ({}, {"nonce": None}, None),
        ({}, {"exp": 1}, None),
        ({}, {"iat": 2**40}, None),
        ({}, {"auth_time": None}, None),
        ({}, {"auth_time": 1}, None),
        ({}, {"sub": ""}, None),
        ({}, {"sub": "s" * 256}, None),
        ({"alg": "none"}, {}, _SECRET),
        ({"alg": "HS256"}, {}, _SECRET),
        ({"kid": "k1"}, {}, RSAKey.generate_key(2048)),
        ({"kid": "unknown"}, {}, None),
    ],
)
async def test_a_token_that_is_not_what_it_must_be_signs_nobody_in(
    lying: tuple[Hall, Liar], header: dict[str, str], claims: dict[str, Any], key: Any
) -> None:
    hall, liar = lying
    async with browser(hall.origin) as page:
        liar.header, liar.claims, liar.signs_with = {}, {}, None
        assert (await _answered(hall, liar, page)).headers["Location"] == "/welcome"  # it would have counted
        liar.header, liar.claims, liar.signs_with = header, claims, key

        seen = await _answered(hall, liar, page)

        assert (seen.status, page.secret) == (401, "")
        assert "does not count" in seen.words


async def test_the_provider_ends_sessions_and_nobody_else_does(lying: tuple[Hall, Liar]) -> None:
    hall, liar = lying
    liar.header, liar.signs_with = {}, None
    liar.claims = {"sub": "okafor", "sid": "their session"}
    named = {"sub": "okafor", "events": {LOGOUT_EVENT: {}}, "jti": "1"}
    code = await hall.code("okafor")
    async with browser(hall.origin) as page:
        await _answered(hall, liar, page)
        await page.post("/welcome", code=code)
        assert (await page.get("/profile")).status == 200
        refused = [
            liar.token(**named | {"events": {}}),
            liar.token(**named | {"nonce": "n"}),
            liar.token(**named | {"iat": int(time.time()) - 600}),
            liar.token(**named | {"aud": "another"}),
            liar.token(**named | {"sub": None}),
            "no token",
        ]
        for token in refused:
            assert await _told(hall, token) == 400
        assert await _told(hall, liar.token(**named | {"sub": "somebody else"})) == 200
        assert (await page.get("/profile")).status == 200

        assert await _told(hall, liar.token(**named)) == 200

        assert (await page.get("/profile")).headers["Location"] == "/sign-in?to=/profile"

        await _answered(hall, liar, page)
        assert (await page.get("/profile")).status == 200
        assert await _told(hall, liar.token(**named | {"sub": None, "sid": "their session"})) == 200
        assert (await page.get("/profile")).status == 303


async def _told(hall: Hall, token: str) -> int:
    """As the provider sends it: from no browser, and so without what a browser says of a page."""
    async with (
        ClientSession() as http,
        http.post(f"{hall.origin}/backchannel-logout", data={"logout_token": token}) as answer,
    ):
        return answer.status
