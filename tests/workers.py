"""Which worker runs which tests, where pytest-xdist has several: a pytest plugin.

The tests of a file stay together, because they share what its fixtures started; those of the folders that
share a whole started system stay together too. What takes longest comes first, so that no worker is left
with it at the end.
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

LONGEST_FIRST = (
    "tests/e2e/",
    "tests/access/test_non_interference",
    "tests/upgrade/",
    "tests/local/",
    "tests/readroom/",
    "tests/gateway/",
    "tests/plumbing/",
)
ONE_SYSTEM = ("tests/e2e/", "tests/readroom/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return next(
            (i for i, folder in enumerate(LONGEST_FIRST) if item.nodeid.startswith(folder)),
            len(LONGEST_FIRST),
        )

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadFileScheduling":
    from xdist.scheduler import LoadFileScheduling

    class ByWhatIsShared(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            shared = (folder for folder in ONE_SYSTEM if nodeid.startswith(folder))
            return next(shared, super()._split_scope(nodeid))

    config.option.loadscopereorder = False  # the order is that of the collection
    return ByWhatIsShared(config, log)
