"""`readroom apply` and `export`: the same file twice changes nothing, and a dry run never does."""

from pathlib import Path

import pytest

from kernel.errors import Invalid
from readroom.wanted import Wanted, WantedPrivilege, WantedUser, read, write
from tests.readroom.conftest import Run

FILE = """
facilities:
- {name: Ash Network, model: hub, mapping_tag: InstitutionName, time_zone: Europe/Amsterdam}
- {name: Ash Street, model: endpoint}
rules:
- {hub: Ash Network, text: ASH CLINIC, endpoint: Ash Street}
users:
- {login: ash1, name: Dr Ash One, role: radiologist, permissions: [report.view, "study.delete@Ash Street"]}
- {login: ash2, name: Ash Two, role: facility-user, home: Ash Street, email: two@ash.example}
privileges:
- {user: ash1, facility: Ash Street, level: report, expires: 2099-01-01, read_types: [final, preliminary]}
- {user: ash2, facility: Ash Street, level: view}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ash.yaml"
    path.write_text(FILE)
    return path


def test_a_file_is_made_so_once_and_exported_as_it_is(admin: Run, file: Path, tmp_path: Path) -> None:
    admin("user", "change", "admin", "--give", "report.view", "--give", "study.delete")
    tried = admin("apply", "-f", file, "--dry-run", "--json").json
    asked = admin("apply", "-f", file)
    assert [each["what"] for each in tried] == [
        "facility Ash Network",
        "facility Ash Street",
        "rule Ash Network: ASH CLINIC to Ash Street",
        "user ash1",
        "user ash2",
        "privilege of ash1 at Ash Street",
        "privilege of ash2 at Ash Street",
    ]
    assert (asked.code, "--yes" in asked.err) == (2, True)
    assert "Ash Street" not in admin("facility", "list").out, "nothing was made yet"

    made = admin("apply", "-f", file, "--yes")
    again = admin("apply", "-f", file, "--yes")
    assert (made.code, "made 7 changes" in made.err) == (0, True), made.err
    assert again.out == "everything is as the file wants it\n"
    one = next(u for u in admin("user", "list", "--json").json if u["login"] == "ash1")
    assert sorted(one["permissions"]) == ["report.view", "study.delete@Ash Street"]

    exported = tmp_path / "all.yaml"
    assert admin("export", "--to", exported).code == 0
    assert exported.stat().st_mode & 0o777 == 0o600, "people's addresses and numbers are theirs who exports"
    assert admin("apply", "-f", exported, "--dry-run").out == "everything is as the file wants it\n"
    assert WantedPrivilege(user="ash2", facility="Ash Street", level="view") in read(exported).privileges

    file.write_text(FILE.replace("Dr Ash One", "Dr Ash First").replace("level: view", "level: none"))
    changed = admin("apply", "-f", file, "--yes").out.splitlines()
    assert changed == ["change  user ash1: name", "change  privilege of ash2 at Ash Street: level"]


def test_a_table_is_read_by_its_columns(admin: Run, tmp_path: Path) -> None:
    users, privileges = tmp_path / "users.csv", tmp_path / "privileges.csv"
    users.write_text("login,name,role,permissions\nrow1,Row One,radiologist,report.view study.view_images\n")
    privileges.write_text("user,facility,level,read_types\nrow1,Row Street,report,final other\n")

    assert read(users).users == [
        WantedUser(
            login="row1", name="Row One", role="radiologist", permissions=["report.view", "study.view_images"]
        )
    ]
    assert read(privileges).privileges[0].read_types == ["final", "other"]
    admin("facility", "create", "Row Street")
    admin("user", "change", "admin", "--give", "report.view", "--give", "study.view_images")
    for table in (users, privileges):
        assert admin("apply", "-f", table, "--yes").code == 0
    assert admin("privilege", "list", "row1", "--json").json[0]["level"] == "report"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("users: [{name: no login}]", "`users[0]`: object missing required field `login`"),
        ("users: [{login: x, colour: red}]", "contains unknown field `colour`"),
        ("privileges: [{user: admin, facility: Nowhere, level: view}]", "there is no facility `Nowhere`"),
        ("users: [{login: x, name: X, role: king}]", "`role` cannot be `king`: take one of administrator"),
        ("gateways: [{name: ghost, ae_titles: {}}]", "enrol it first"),
        ("users: [", "is not YAML"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_file_with_a_mistake_changes_nothing_and_says_where(
    content: str, said: str, admin: Run, tmp_path: Path
) -> None:
    (tmp_path / "wrong.yaml").write_text(content)
    answer = admin("apply", "-f", tmp_path / "wrong.yaml", "--yes")

    assert answer.code in (2, 3)
    assert said in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "", "login,name,role\nx\n", "login,name\nx,y,z\n"])
def test_a_table_of_no_kind_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(Invalid, match="columns"):
        read(tmp_path / "table.csv")


def test_what_is_written_is_read_again() -> None:
    wanted = Wanted(users=[WantedUser(login="a", permissions=[])])

    assert "permissions: []" in write(wanted)
    assert "email" not in write(wanted)
