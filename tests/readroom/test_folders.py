"""Folders and grants at the command line."""

import pytest

from tests.readroom.conftest import SITE, Run, Ward


@pytest.mark.proves("ACC-4", part="command line")
@pytest.mark.proves("ACC-5", part="command line")
def test_what_is_shown_by_grants_and_folders_is_listed_and_taken_back(ward: Ward) -> None:
    run, case = ward.run, ward.case_id
    assert run("login", "admin").code == 0
    run("user", "create", "alder", "--name", "Alder", "--role", "referring-physician")
    run("folder", "create", "Alders", "--member", "alder")

    assert run("grant", "create", case, "alder").code == 0
    assert run("folder", "put", "Alders", case).code == 0
    for how in (("--case", case), ("--user", "alder")):
        (granted,) = run("grant", "list", *how, "--json").json
        assert (granted["user"], granted["case_id"], granted["facility"]) == ("alder", case, SITE)
    for listed in (("cases", "alders"), ("holding", case)):
        (held,) = run("folder", *listed, "--json").json
        assert (held["folder"], held["case_id"], held["facility"]) == ("Alders", case, SITE)

    assert run("grant", "revoke", case, "alder").code == 0
    assert run("folder", "remove", "Alders", case).code == 0
    assert run("grant", "list", "--case", case, "--json").json == []
    assert run("folder", "cases", "Alders", "--json").json == []


@pytest.mark.parametrize("how", [(), ("--case", "x", "--user", "y")])
def test_grants_are_listed_of_a_case_or_of_a_user(admin: Run, how: tuple[str, ...]) -> None:
    answer = admin("grant", "list", *how)

    assert (answer.code, answer.out) == (2, "")
    assert "`--case` or `--user`" in answer.err
