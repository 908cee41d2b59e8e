"""Command lines that make no sense: unknown commands, options, areas and issues."""

import pytest
from project import assert_harmless

ONE = {"id": 1, "title": "One", "run": ["true"]}
ISSUE_COMMANDS = ("cancel", "skip", "retry", "hold", "release", "logs", "attach")
AREA_COMMANDS = ("status", "graph", "pause", "resume", "drain", "stop", "attach")
WITHOUT_BATCH = [
    *((command, "work") for command in AREA_COMMANDS),
    *((command, "work", "1") for command in ISSUE_COMMANDS),
]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["polish"], "No such command 'polish'"),
        (["\x1b[31m\u202e"], "No such command"),
        (["--\x1b[31m\u202e"], "No such option"),
        (["plan", "work", "--\x1b[31m"], "No such option"),
        (["plan", "work", "--form", "issues"], "--from"),
        (["plan"], "Missing argument 'AREA'"),
        (["plan", "work", "more\x9b31m"], "unexpected extra argument"),
        (["cancel", "work"], "Missing argument 'ISSUE'"),
        (["run", "work", "--max-concurrent", "0"], "0 is not in the range 1<=x<=1000"),
        (["run", "work", "--max-concurrent", "-3"], "not in the range"),
        (["plan", "work", "--max-concurrent", "four"], "'four' is not a valid integer"),
        (["plan", "work", "--max-concurrent", "\x1b[31m"], "is not a valid integer"),
        (["graph", "work", "--format", "png"], "'png' is not one of"),
        (["status", "work", "more"], "unexpected extra argument"),
    ],
)
def test_wrong_usage_is_refused_with_what_is_wrong(project, argv, words):
    assert words in project.refusal(*argv)


@pytest.mark.parametrize(
    "area",
    ["a/b", "..", "a..b", "a b", "", ".hidden", "a.lock", "x" * 101, "$(id)", "#{pid}",
     "a;b", "a:b", "é", "a\nb", "\x1b[31m", "\u202e", "\udcff"],
)  # fmt: skip
def test_area_name_with_odd_characters_is_refused(project, area):
    source = project.plan([ONE])
    for argv in (("run", area, "--from", source), ("status", area)):
        said = project.refusal(*argv)
        assert "input error: area " in said
        assert "is not a usable name" in said
        assert "hint: choose a name such as client or server-2" in said


def test_every_command_refuses_an_area_that_would_be_a_path(project):
    source = project.plan([ONE])
    assert "area '../x' is not" in project.refusal("plan", "../x", "--from", source)
    for command, *rest in WITHOUT_BATCH:
        assert "area '../x' is not a usable name" in project.refusal(command, "../x", *rest[1:])


@pytest.mark.parametrize("argv", WITHOUT_BATCH, ids=" ".join)
def test_area_without_a_batch_is_refused_and_nothing_is_made(project, argv):
    said = project.refusal(*argv)
    assert "usage error: area work has no batch" in said
    assert "hint: begin one: gangline run work --from SRC" in said


def test_status_of_nothing_says_how_to_begin(project):
    assert "gangline run AREA --from SRC" in project.refusal("status")
    assert project.run("list", check=0).stdout == "no area has a batch\n"


def test_misspelt_area_or_issue_is_refused_with_what_was_meant(project):
    source = project.plan([{**ONE, "id": "parser"}, {**ONE, "id": 2}])
    project.settings("[workspace]\nkind = 'shared'\n")
    project.run("run", "client", "--from", source, check=0)
    for command, *rest in (("status",), ("cancel", "1"), ("logs", "1"), ("stop",)):
        said = project.refusal(command, "cleint", *rest)
        assert "area cleint has no batch" in said
        assert "hint: did you mean client?" in said
    for command in ISSUE_COMMANDS:
        said = project.refusal(command, "client", "parsr")
        assert "there is no issue 'parsr' in area client" in said
        assert "hint: did you mean 'parser'?" in said
    said = project.refusal("skip", "client", "\x1b[31m")
    assert "hint: gangline status client lists them" in said


def test_command_that_does_not_fit_the_issue_is_refused(project):
    project.settings("[workspace]\nkind = 'shared'\n")
    project.run("run", "work", "--from", project.plan([ONE]), check=0)
    for command in ("cancel", "skip", "hold"):
        assert "#1 is completed and cannot be" in project.refusal(command, "work", "1")
    assert "completed work is not done again" in project.refusal("retry", "work", "1")
    assert "#1 has no attempt 7" in project.refusal("logs", "work", "1", "--attempt", "7")


def test_wrong_usage_is_harmless_on_a_terminal_too(project):
    code, shown = project.run_in_terminal("plan", "work", "more\x1b[31m\x9b31m\u202e", columns=200)
    assert code == 2
    assert "unexpected extra argument" in shown
    assert_harmless(shown)


def test_init_does_not_write_over_settings_that_are_there(project):
    said = project.refusal("init")
    assert "config error: there is a gangline.toml already" in said
    assert f"at: {project.folder}/gangline.toml" in said
    (project.folder / "gangline.toml").unlink()
    (project.folder / "gangline.toml").symlink_to("elsewhere")
    assert "there is a gangline.toml already" in project.refusal("init")
