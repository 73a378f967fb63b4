"""What notify is told, and how it refuses what would let mails or codes out in the open."""

from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Invalid
from kernel.language import Language
from local.pki import Pki
from plumbing import config
from services.notify.main import Settings
from tests.auditing import audit_settings


@pytest.fixture
def environ(pki: Pki, tmp_path: Path) -> dict[str, str]:
    identity = pki.tls("notify")
    told = {
        "LISTEN": "127.0.0.1:0",
        "HTTP_LISTEN": "127.0.0.1:0",
        "DATABASE_URL": "postgresql://notify@127.0.0.1/notify",
        "NATS_URL": "nats://127.0.0.1:4222",
        "TLS_CERTIFICATE": str(identity.certificate),
        "TLS_KEY": str(identity.key),
        "TLS_CA": str(identity.ca),
        "TOKEN_KEYS": str(pki.token_keys),
        **audit_settings(tmp_path),
        "ACCESS_ADDRESS": "127.0.0.1:1",
        "SHARING_ADDRESS": "127.0.0.1:2",
        "SMTP_ADDRESS": "mail.group.example:587",
        "MAIL_FROM": "readroom@group.example",
        "LINK_BASE": "https://readroom.example/shared/",
        "TEXT_URL": "https://texts.example/send",
        "TEXT_TOKEN": "sesame",
    }
    return {f"READROOM_NOTIFY_{key}": value for key, value in told.items()}


def loaded(environ: dict[str, str], **told: str) -> Settings:
    return config.load(Settings, environ | {f"READROOM_NOTIFY_{key}": value for key, value in told.items()})


def test_what_is_not_told_is_safe(environ: dict[str, str]) -> None:
    settings = loaded(environ)

    assert ("starttls", (30, 7, 1), "", Language.EN) == (
        settings.smtp_tls,
        settings.reminder_days,
        settings.reminders_to,
        settings.reminders_language,
    )
    assert {"NL", "BE", "FR", "DE", "GB"} < set(settings.text_countries)
    assert "US" not in settings.text_countries


def test_lists_stand_with_commas(environ: dict[str, str]) -> None:
    settings = loaded(environ, REMINDER_DAYS="14, 2", TEXT_COUNTRIES="NL,US", REMINDERS_LANGUAGE="nl")

    assert ((14, 2), ("NL", "US"), Language.NL) == (
        settings.reminder_days,
        settings.text_countries,
        settings.reminders_language,
    )
    assert () == loaded(environ, REMINDER_DAYS="").reminder_days


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SMTP_TLS", "none"),
        ("SMTP_TLS", "maybe"),
        ("MAIL_FROM", ""),
        ("MAIL_FROM", "Readroom <readroom@group.example>"),
        ("MAIL_FROM", "a@b.example\r\nBcc: c@d.example"),
        ("REMINDERS_TO", "nobody"),
        ("TEXT_URL", "http://texts.example/send"),
        ("TEXT_URL", "ftp://texts.example/send"),
        ("LINK_BASE", "http://readroom.example/shared/"),
        ("TEXT_COUNTRIES", "NL,XX"),
        ("REMINDER_DAYS", "7,-1"),
        ("REMINDER_DAYS", "soon"),
        ("REMINDERS_LANGUAGE", "tlh"),
        ("SMTP_TIMEOUT_S", "0"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(environ: dict[str, str], key: str, value: str) -> None:
    with pytest.raises(Invalid, match=f"READROOM_NOTIFY_{key}"):
        loaded(environ, **{key: value})


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_on_this_machine_mail_may_go_unencrypted(environ: dict[str, str], host: str) -> None:
    told: Any = {"SMTP_ADDRESS": f"{host}:25", "SMTP_TLS": "none", "TEXT_URL": f"http://{host}:1/texts"}

    assert "none" == loaded(environ, **told).smtp_tls
