"""A gangline.toml that is wrong, agents that are unknown, programs that are missing."""

import pytest

ONE = {"id": 1, "title": "One", "run": ["true"]}


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("[batch]\nmax_concurent = 3\n", "batch.max_concurent", "did you mean max_concurrent?"),
        ("[bacth]\nfrom = 'issues'\n", "bacth", "did you mean batch?"),
        ("[workspace]\nfrom = 'issues'\n", "workspace.from", "from belongs under [batch]"),
        ("[batch]\nmax_concurrent = 'four'\n", "batch.max_concurrent", 'the string "four"'),
        ("[batch]\nmax_concurrent = 0\n", "batch.max_concurrent", "an integer from 1 to 1000"),
        ("[batch]\npoll_seconds = true\n", "batch.poll_seconds", "is true; expected a number"),
        ("[batch]\nprompt = '{boddy}'\n", "batch.prompt", "did you mean {body}?"),
        ("[retry]\nmax = 2\n", "retry.max", "one automatic re-dispatch"),
        ("[workspace]\nkind = 'worktrees'\n", "workspace.kind", "did you mean worktree?"),
        ("[workspace]\nbranch = 'b-{area}'\n", "workspace.branch", "does not hold {issue}"),
        ("[workspace]\nbranch = '{area} {issue}'\n", "workspace.branch", "not a name that git"),
        ("[agents.me]\nstart = 'me -x'\n", "agents.me.start", 'write start = ["me", "-x"]'),
        ("[agents.cluade]\nprompt = 'stdin'\n", "agents.cluade", "did you mean claude?"),
        ("[agents.me]\nstart = ['sh', '-c', 'x {title}']\n", "agents.me.start[2]", "shell line"),
        ("[batch]\nagent = 'cluade'\n", "batch.agent", "did you mean claude?"),
        ('[batch]\n"\\u001b[31m" = 1\n', "batch.", "there is no key"),
    ],
)
def test_wrong_key_is_refused_with_its_path_and_what_was_meant(project, text, path, words):
    project.settings(text)
    for said in project.refusals("--from", project.plan([ONE])):
        assert "gangline: config error: " in said
        assert f"  at: gangline.toml: {path}" in said
        assert words in said


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("[batch]\nagent = claude\n", "gangline.toml:2:9", "is not valid TOML"),
        ("[batch\n", "gangline.toml:1:7", "is not valid TOML"),
        (b"[batch]\nagent = '\xe9'\n", "gangline.toml:2", "is not UTF-8 text"),
        ("[batch]\nagent = '\x1b[31m'\n", "gangline.toml:2:10", "is not valid TOML"),
    ],
)
def test_file_that_cannot_be_read_as_toml_is_refused_with_its_line(project, content, place, words):
    project.write("gangline.toml", content)
    for said in project.refusals("--from", project.plan([ONE])):
        assert "config error" in said
        assert f"at: {place}" in said
        assert words in said
        assert "hint: " in said


def test_folder_in_the_place_of_the_settings_is_refused(project):
    (project.folder / "gangline.toml").unlink()
    (project.folder / "gangline.toml").mkdir()
    for said in project.refusals("--from", project.plan([ONE])):
        assert "config error: it cannot be read: Is a directory" in said
        assert "at: gangline.toml" in said


def test_other_commands_refuse_wrong_settings_too(project):
    project.settings("[bacth]\n")
    for command in (("init",), ("list",), ("cancel", "work", "1"), ("stop", "work")):
        assert "did you mean batch?" in project.refusal(*command)


def test_tmux_socket_that_can_be_none_is_refused(project):
    for socket, words in (
        ("relative/path", "a name, or an absolute path"),
        ("/" + "x" * 200, "a socket's path holds 103"),
        (f"{project.room}/no/socket", "is in no folder"),
    ):
        project.write("gangline.toml", f"[tmux]\nsocket = '{socket}'\n")
        said = project.refusal("run", "work", "--from", project.plan([ONE]))
        assert "at: gangline.toml: tmux.socket" in said
        assert words in said


@pytest.mark.parametrize("form", ["option", "issue"])
def test_unknown_agent_is_refused_with_its_place_and_what_was_meant(project, form):
    issue = {"id": 1, "title": "One"}
    option = ["--agent", "cluade"] if form == "option" else []
    if form == "issue":
        issue["agent"] = "cluade"
    for said in project.refusals("--from", project.plan([issue]), *option):
        assert "there is no agent 'cluade'" in said
        assert "known agents: " in said
        assert "hint: did you mean claude?" in said
        assert ("at: --agent" if form == "option" else "at: plan.json: issues[0]") in said


def test_batch_without_an_agent_says_how_one_is_named(project):
    for said in project.refusals("--from", project.plan([{"id": 1, "title": "One"}])):
        assert "no agent is named" in said
        assert "--agent" in said


def test_program_that_is_not_on_path_is_refused_with_how_to_install_it(project):
    path = project.only_programs("git", "tmux")
    source = project.plan([{"id": 1, "title": "One"}])
    for said in project.refusals("--from", source, "--agent", "claude", env=path):
        assert "machine error: program 'claude' of agent 'claude' is not on PATH" in said
        assert "hint: install it: npm install" in said


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("no-such-program", "is not on PATH"),
        ("/no/such/program", "is not an executable file"),
        ("no-such-\x1b[31m", "is not on PATH"),
    ],
)
def test_missing_program_of_an_issue_is_refused(project, program, problem):
    source = project.plan([ONE, {"id": 2, "title": "Two", "run": [program]}])
    for said in project.refusals("--from", source):
        assert "machine error: program" in said
        assert problem in said
        assert "hint: install it, or write its full path" in said


def test_missing_setup_program_is_refused_before_any_worktree_is_made(project):
    project.settings("[workspace]\nsetup = ['no-such-program']\n")
    project.commit()
    for said in project.refusals("--from", project.plan([ONE])):
        assert "program 'no-such-program' of [workspace] setup is not on PATH" in said
        assert "at: gangline.toml: workspace.setup" in said
