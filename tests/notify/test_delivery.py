"""One notice per intent, handed over once, whatever fails."""

import pytest

from services.notify.domain import State
from tests.notify.conftest import Notify


@pytest.mark.proves("NTF-2")
@pytest.mark.proves("SHR-28")
async def test_a_share_is_told_by_mail_once_however_often_it_is_heard(notify: Notify) -> None:
    bucket = notify.owners.bucket(message="Please look")
    for _ in range(3):
        await notify.created(bucket)

    (mail,) = await notify.deliver()
    await notify.created(bucket)

    assert [mail] == await notify.deliver()
    assert ("jane", "roe@clinic.example") != (mail.sender, mail.to)
    assert "https://readroom.example/shared/" + "L" * 43 in mail.text
    assert "> Please look" in mail.text
    notice = await notify.only()
    assert (State.SENT, 1, notify.clock.now()) == (notice.state, notice.attempts, notice.sent_at)
