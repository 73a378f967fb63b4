"""What a person at a terminal meets: a session of their own, short ids, tables that fit, their own words."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import click
import pytest
from rich.cells import cell_len

from kernel.errors import Conflict, Invalid, NotFound, Unauthenticated
from local.system import ROOT, LocalSystem
from readroom.fitting import aligned, fit
from readroom.options import as_typed
from readroom.place import place
from readroom.session import Session
from readroom.shortids import ShownIds
from readroom.show import day, person
from tests.readroom.conftest import Run, Ward

NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
IDS = [str(UUID(int=number << 64 | number)) for number in (0xAAAA0001, 0xAAAA0002, 0x1AAAA0002)]


def test_each_terminal_has_a_session_unless_one_is_shared(tmp_path: Path) -> None:
    here = place(tmp_path, None)
    asked = (
        "from pathlib import Path; from readroom.place import place;"
        "print(place(Path('d'), None).session_file)"
    )
    command = [sys.executable, "-c", asked]
    same, other = (
        subprocess.run(
            command, cwd=ROOT, start_new_session=new, capture_output=True, text=True, check=True
        ).stdout.strip()
        for new in (False, True)
    )

    assert here.session_file.name == Path(same).name
    assert here.session_file.name != Path(other).name
    assert here.current_file == here.session_file
    (tmp_path / "session.json").touch()
    assert here.current_file == tmp_path / "session.json", "of the version before, or of --all-terminals"
    here.session_file.parent.mkdir()
    here.session_file.touch()
    assert here.current_file == here.session_file


def test_a_session_ends_and_one_of_the_version_before_does_not(tmp_path: Path) -> None:
    file, ends_at = tmp_path / "session.json", NOW + timedelta(hours=12)
    Session.begin("vos", ends_at).write(file)

    assert Session.read(file, ends_at - timedelta(seconds=1)).login == "vos"
    with pytest.raises(Unauthenticated, match=r"the session of `vos` ended at .*: say `readroom login vos`"):
        Session.read(file, ends_at)
    file.write_text('{"login":"vos","session":"x"}')
    assert Session.read(file, ends_at).ends_at is None


def test_an_id_is_as_short_as_it_is_unique_at_the_terminal(tmp_path: Path) -> None:
    ids = ShownIds(tmp_path / "session.json")
    one, two, alike = IDS

    assert ids.short([one, two]) == {one: "aaaa0001", two: "aaaa0002"}
    assert ids.short([alike]) == {alike: "1aaaa0002"}
    assert [ids.full(text) for text in ("aaaa0001", two, "Maple Street")] == [one, two, "Maple Street"]
    with pytest.raises(Conflict, match="type more of it"):
        ids.full("aaaa0002")
    with pytest.raises(NotFound, match="ends in `beef`"):
        ids.full("beef")


@pytest.mark.parametrize("name", ["x.ids", "x", "x.json"])
def test_the_ids_of_one_session_overwrite_no_other(tmp_path: Path, name: str) -> None:
    other = place(tmp_path, tmp_path / name).session_file
    ShownIds(other).short([IDS[1]])
    other.write_text("the session")

    ShownIds(tmp_path / "x.toml").short([IDS[0]])

    assert other.read_text() == "the session"
    with pytest.raises(NotFound):
        ShownIds(other).full(IDS[0][-8:])
    made = {each for each in tmp_path.iterdir() if "toml" in each.name}
    for each in made:
        with pytest.raises(Invalid, match="give the session another name"):
            place(tmp_path, each)


def test_a_table_fits_the_terminal() -> None:
    rows = [["NAME", "DESCRIPTION", "ID"], ["山田, 太郎", "a long text that nobody needs", "aaaa0001"]]

    wide, none = fit(rows, 80)
    narrow, left_out = fit(rows, 34)
    tiny, most = fit(rows, 14)

    assert (wide, none) == (rows, 0)
    assert left_out == 0
    assert narrow[1][1].endswith("…")
    assert all(cell_len(line) <= 34 for line in aligned(narrow))
    assert (most, len(tiny[0])) == (2, 1)


@pytest.mark.parametrize(
    ("written", "name"),
    [("VOS^Eva^M^Dr", "VOS, Eva M"), ("Ada", "Ada"), ("Yamada^Taro=山田^太郎", "Yamada, Taro")],
)
def test_names_and_days_are_written_as_people_write_them(written: str, name: str) -> None:
    assert person(written) == name
    assert [day("20260228"), day("2026"), day("soon")] == ["2026-02-28", "2026", "soon"]


SHARE = click.Command(
    "new",
    params=[
        click.Argument(["case_ids"], nargs=-1, metavar="CASE_ID…"),
        click.Option(["--to", "logins"]),
        click.Option(["--till"]),
        click.Option(["--two-factor/--no-two-factor"]),
        click.Option(["--patient-agreed"], is_flag=True),
    ],
)


@pytest.mark.parametrize(
    ("sentence", "field", "said"),
    [
        ("somebody is named twice (`recipients`)", "recipients", "somebody is named twice (`--to`)"),
        ("`valid_till` has passed", "valid_till", "`--till` has passed"),
        ("say so with `patient_agreed`", "patient_agreed", "say so with `--patient-agreed`"),
        ("share without one (`two_factor`)", "two_factor", "share without one (`--no-two-factor`)"),
        ("name 1 to 100 cases (`case_ids`)", "case_ids", "name 1 to 100 cases (`CASE_ID…`)"),
        ("there is no user `till`", None, "there is no user `till`"),
        ("it has passed", "valid_till", "`--till`: it has passed"),
        ("it is wrong", "nothing_typed", "it is wrong"),
    ],
)
def test_an_error_names_what_was_typed(sentence: str, field: str | None, said: str) -> None:
    assert as_typed(Invalid(sentence, field=field), SHARE) == said


def test_who_acts_is_told_until_when_and_what_they_may(admin: Run) -> None:
    assert admin("facility", "create", "Sycamore").code == 0
    assert admin("privilege", "set", "admin", "Sycamore", "view").code == 0
    told = admin("whoami").out

    assert "(`admin`), administrator" in told
    assert "logged in until" in told
    assert "privilege   view at Sycamore" in told
    assert "permission  gateway.admin" in told
    assert admin("me", "--json").json["login"] == "admin", "the word of the version before"
    assert admin("logout").out == "logged out\n"
    assert admin("whoami").code == 5
    assert admin("logout").out == "nobody was logged in\n"


def test_permissions_are_given_and_taken_one_by_one(admin: Run) -> None:
    admin("facility", "create", "Hazel")
    admin("user", "create", "hazel", "--name", "Hazel", "--role", "facility-user", "--home", "Hazel")
    before = set(admin("user", "list", "--columns", "login,permissions", "--json").json[-1]["permissions"])
    given = admin("user", "change", "hazel", "--give", "share.admin@Hazel", "--json").json["permissions"]
    taken = admin("user", "change", "hazel", "--take", "share.admin@Hazel", "--json").json["permissions"]
    again = admin("user", "change", "hazel", "--take", "share.admin@Hazel")
    both = admin("user", "change", "hazel", "--give", "operator", "--permission", "operator")

    assert before, "a role gives some"
    assert "share.admin@Hazel" in given
    assert set(given) - set(taken) == {"share.admin@Hazel"}
    assert (again.code, "`hazel` does not have `share.admin`" in again.err) == (2, True)
    assert (both.code, "name one way" in both.err) == (2, True)


def test_a_user_is_deactivated_and_activated(admin: Run) -> None:
    admin("user", "create", "birch", "--name", "Birch", "--role", "radiologist")

    assert admin("user", "deactivate", "birch", "--json").json["active"] is False
    assert admin("login", "birch").code == 5
    assert admin("user", "activate", "birch", "--json").json["active"] is True


def test_a_table_has_the_columns_that_somebody_names(admin: Run) -> None:
    listed = admin("user", "list", "--columns", "login, version")
    unknown = admin("user", "list", "--columns", "age")

    assert listed.out.splitlines()[0].split() == ["LOGIN", "VERSION"]
    assert (unknown.code, "there is no column `age`: the columns are login, name" in unknown.err) == (2, True)


def test_a_folder_is_shown_with_its_cases(ward: Ward) -> None:
    run, case_id = ward.run, ward.case_id
    assert run("login", "admin").code == 0
    run("folder", "create", "Shown", "--member", "ivy")
    assert "no case is in it" in run("folder", "show", "Shown").out
    run("folder", "put", "Shown", case_id)

    shown = run("folder", "show", "Shown", "--json").json
    assert (shown["members"], [each["case_id"] for each in shown["cases"]]) == (["ivy"], [case_id])
    assert case_id in run("folder", "show", "Shown").out


def test_a_case_is_not_deleted_without_asking(ward: Ward) -> None:
    answer = ward.by("chief", "case", "delete", ward.case_id)

    assert (answer.code, answer.out) == (2, "")
    assert "--yes" in answer.err
    assert ward.by("chief", "case", "show", ward.case_id).code == 0


def test_who_sees_a_case_and_not_its_images_is_told_which_permission_they_lack(
    ward: Ward, tmp_path: Path
) -> None:
    assert ward.run("login", "admin").code == 0
    ward.run("user", "create", "elm", "--name", "Elm", "--role", "radiologist")
    ward.run("user", "change", "elm", "--no-permissions")
    ward.run("privilege", "set", "elm", "Linden", "view")
    answer = ward.by("elm", "case", "fetch", ward.case_id, "--to", tmp_path / "images")

    assert answer.code == 4
    assert "you need the permission `study.view_images` at `Linden`" in answer.err


def test_a_short_id_is_shown_and_understood_at_a_terminal(ward: Ward, system: LocalSystem) -> None:
    """In a terminal of 100 columns, as `script` opens one."""
    if shutil.which("script") is None:
        pytest.skip("needs `script` of util-linux")
    assert ward.by("ivy", "case", "list").code == 0
    python = sys.executable
    lines = (
        "stty cols 100",
        f"{python} -m readroom case list",
        f"{python} -m readroom case show {ward.case_id[-8:]} --json",
    )
    done = subprocess.run(
        ["script", "-qec", "; ".join(lines), "/dev/null"],
        cwd=ROOT,
        env=os.environ | {"READROOM_DATA": str(system.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    listed = [line for line in done.stdout.split("{")[0].splitlines() if "too narrow" not in line]
    assert all(cell_len(line.rstrip()) <= 100 for line in listed)
    assert ward.case_id not in "".join(listed)
    assert f'"case_id": "{ward.case_id}"' in done.stdout
