"""What the web refuses to start with."""

from pathlib import Path

import pytest

from kernel.errors import Invalid
from plumbing.config import load
from web.main import Settings


def _environ(tmp_path: Path, **changed: str) -> dict[str, str]:
    file = tmp_path / "file.pem"
    file.touch()
    told = {
        "LISTEN": "127.0.0.1:1",
        "HTTP_LISTEN": "127.0.0.1:2",
        "PAGES_LISTEN": "127.0.0.1:3",
        "ORIGIN": "http://localhost:3",
        "DATABASE_URL": "postgresql://web@127.0.0.1/web",
        "TLS_CERTIFICATE": str(file),
        "TLS_KEY": str(file),
        "TLS_CA": str(file),
        "TOKEN_KEY": str(file),
        "TOKEN_KEYS": str(file),
        "AUDIT_KEY": "k" * 32,
        "AUDIT_ANCHOR_FILE": str(tmp_path / "anchor"),
        "ACCESS_ADDRESS": "127.0.0.1:4",
        "REPORTING_ADDRESS": "localhost:5",
        "INGEST_ADDRESS": "127.0.0.1:6",
        "SHARING_ADDRESS": "127.0.0.1:7",
        "DEVELOPMENT_ISSUER": "true",
    }
    return {f"READROOM_WEB_{key}": value for key, value in {**told, **changed}.items()}


def test_all_on_one_machine_is_taken(tmp_path: Path) -> None:
    assert load(Settings, _environ(tmp_path)).development_issuer


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"DEVELOPMENT_ISSUER": "false"}, "nobody could sign in"),
        ({"OIDC_ISSUER": "https://login.example"}, "people in two ways"),
        ({"ACCESS_ADDRESS": "access.example:4"}, "`READROOM_WEB_ACCESS_ADDRESS` is not a loopback address"),
        ({"LISTEN": "0.0.0.0:1"}, "`READROOM_WEB_LISTEN` is not a loopback address"),
        ({"ORIGIN": "https://readroom.example"}, "`READROOM_WEB_ORIGIN` is not a loopback address"),
        ({"ORIGIN": "http://readroom.example"}, "expected https://"),
        ({"ORIGIN": "http://localhost:3/"}, "expected https://HOST"),
        ({"ORIGIN": "localhost:3"}, "expected https://HOST"),
        ({"VIEWER_ORIGIN": "http://localhost:4"}, "has the host of `READROOM_WEB_ORIGIN`"),
        ({"VIEWER_ORIGIN": "http://viewer.localhost:3"}, "set `READROOM_WEB_DICOMWEB_ADDRESS`"),
        ({"VIEWER_ORIGIN": "http://viewer.localhost:3/"}, "`READROOM_WEB_VIEWER_ORIGIN` is not valid"),
        ({"VIEWER_ORIGIN": "http://viewer.example:3"}, "expected https://"),
        (
            {"VIEWER_ORIGIN": "https://viewer.example", "DICOMWEB_ADDRESS": "127.0.0.1:8"},
            "`READROOM_WEB_VIEWER_ORIGIN` is not a loopback",
        ),
        ({"DICOMWEB_ADDRESS": "ingest.example:3"}, "`READROOM_WEB_DICOMWEB_ADDRESS` is not a loopback"),
        ({"PAGES_LISTEN": "0.0.0.0:3"}, "set `READROOM_WEB_PAGES_CERTIFICATE`"),
        ({"PAGES_CERTIFICATE": __file__}, "set both"),
    ],
)
def test_what_would_leave_the_machine_is_refused(
    tmp_path: Path, changed: dict[str, str], refusal: str
) -> None:
    with pytest.raises(Invalid, match=refusal):
        load(Settings, _environ(tmp_path, **changed))


_ELSEWHERE = {
    "DEVELOPMENT_ISSUER": "false",
    "OIDC_ISSUER": "https://login.example/realms/hospital",
    "OIDC_CLIENT_ID": "readroom",
    "OIDC_CLIENT_SECRET": "a secret",
    "ORIGIN": "https://readroom.example",
    "ACCESS_ADDRESS": "access.example:4",
}


def test_with_a_provider_the_web_may_be_anywhere(tmp_path: Path) -> None:
    assert load(Settings, _environ(tmp_path, **_ELSEWHERE)).oidc_client_id == "readroom"


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"OIDC_ISSUER": "http://login.example"}, "`READROOM_WEB_OIDC_ISSUER` is not valid"),
        ({"OIDC_ISSUER": "login.example"}, "`READROOM_WEB_OIDC_ISSUER` is not valid"),
        ({"OIDC_CLIENT_ID": ""}, "set `READROOM_WEB_OIDC_CLIENT_ID`"),
        ({"OIDC_CLIENT_SECRET": ""}, "`READROOM_WEB_OIDC_CLIENT_SECRET`"),
    ],
)
def test_a_provider_that_could_not_be_trusted_is_refused(
    tmp_path: Path, changed: dict[str, str], refusal: str
) -> None:
    with pytest.raises(Invalid, match=refusal):
        load(Settings, _environ(tmp_path, **(_ELSEWHERE | changed)))
