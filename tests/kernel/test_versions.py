"""What is said to somebody who saves what another has changed meanwhile."""

from datetime import datetime, timedelta, timezone

import pytest

from kernel.errors import Conflict
from kernel.versions import NEVER_SAVED, Change, must_be_current

AT = datetime(2026, 11, 26, 19, 4, 5, tzinfo=timezone(timedelta(hours=1)))


def test_the_stored_version_may_be_saved_over() -> None:
    must_be_current("the user `jane`", 3, Change(3, "ada", AT))
    must_be_current("the user `jane`", 0, NEVER_SAVED)


@pytest.mark.parametrize(
    ("named", "last", "said"),
    [
        (
            2,
            Change(3, "ada", AT),
            "the user `jane` was changed by `ada` on 2026-11-26 at 18:04:05 UTC after you loaded it: "
            "load it again and repeat your change",
        ),
        (
            4,
            Change(3),
            "the user `jane` was changed after you loaded it: load it again and repeat your change",
        ),
        (
            2,
            Change(0, "ada", AT),
            "the user `jane` was removed by `ada` on 2026-11-26 at 18:04:05 UTC after you loaded it: "
            "load it again and repeat your change",
        ),
        (
            0,
            Change(3, "ada", AT),
            "the user `jane` exists already and was last changed by `ada` on 2026-11-26 at 18:04:05 UTC: "
            "load it and name its version",
        ),
    ],
)
def test_another_version_is_a_conflict_that_says_who_changed_it_and_when(
    named: int, last: Change, said: str
) -> None:
    with pytest.raises(Conflict) as refusal:
        must_be_current("the user `jane`", named, last)
    assert (said, "version") == (refusal.value.sentence, refusal.value.field)
