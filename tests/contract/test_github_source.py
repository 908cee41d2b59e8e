"""The GitHub source against a stand-in for `gh`: what it asks, and what it makes of each answer.

There is no GitHub here, so a script takes gh's place on PATH. It answers from a list, one entry a
call, with the exit codes and texts of gh 2.x (its `pkg/cmd/api` and `internal/ghcmd`), and writes
down how it was called. A call too many ends with an exit code that nothing expects.
"""

import json
import os

import pytest
from attempt_stage import python_script_start

from gangline.errors import InputError, MachineError
from gangline.sources import gh as gh_program
from gangline.sources.loading import load

SCRIPT = """\
{start}import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
names = ("GH_PROMPT_DISABLED", "NO_COLOR", "GH_FORCE_TTY", "GH_DEBUG")
call = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "pid": os.getpid(), "stdin": sys.stdin.read(),
        "env": {{name: os.environ[name] for name in names if name in os.environ}}}}
with open(os.path.join(here, "calls"), "a") as file:
    file.write(json.dumps(call) + "\\n")
with open(os.path.join(here, "calls")) as file:
    number = len(file.readlines()) - 1
with open(os.path.join(here, "answers.json")) as file:
    answers = json.load(file)
answer = answers[number] if number < len(answers) else {{"exit": 99, "stderr": "one call too many"}}
while answer.get("hang"):
    time.sleep(60)
sys.stdout.write(answer.get("stdout", ""))
sys.stderr.write(answer.get("stderr", ""))
sys.exit(answer.get("exit", 0))
"""


class Gh:
    """The stand-in: `answers` are given in order; `calls` is how it was called."""

    def __init__(self, folder):
        self.folder = folder
        script = folder / "gh"
        script.write_text(SCRIPT.format(start=python_script_start()))
        script.chmod(0o755)

    def answers(self, *answers):
        (self.folder / "answers.json").write_text(json.dumps(answers))

    @property
    def calls(self):
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def variables(self, number):
        """The GraphQL variables of a call, and its flags, by name."""
        argv = self.calls[number]["argv"]
        pairs = [argv[at + 1] for at, word in enumerate(argv) if word in {"-f", "-F"}]
        return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def gh(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("GH_FORCE_TTY", "1")
    return Gh(tmp_path / "bin")


@pytest.fixture
def read(gh, tmp_path):
    def load_source(source="github:o/r", **arguments):
        return load(source, str(tmp_path / "work"), **arguments)

    return load_source


def blocker(number, state="OPEN", repository="o/r"):
    return {"number": number, "state": state, "repository": {"nameWithOwner": repository}}


def issue(number, body="", *, blockers=(), labels=(), assignees=(), title=None, more=False):
    return {
        "number": number,
        "title": title or f"Issue {number}",
        "body": body,
        "state": "OPEN",
        "labels": {"nodes": [{"name": name} for name in labels]},
        "assignees": {"nodes": [{"login": login} for login in assignees]},
        "blockedBy": {"nodes": list(blockers), "pageInfo": {"hasNextPage": more}},
    }


def page(*issues, cursor=None, viewer=None, errors=()):
    data = {
        "repository": {
            "nameWithOwner": "o/r",
            "issues": {
                "pageInfo": {"hasNextPage": cursor is not None, "endCursor": cursor},
                "nodes": list(issues),
            },
        }
    }
    if viewer:
        data["viewer"] = {"login": viewer}
    return answer(data, errors)


def answer(data, errors=()):
    """As `gh api graphql` gives it: the body on stdout even when there are errors, then exit 1."""
    body = {"data": data, "errors": list(errors)} if errors else {"data": data}
    said = "\n".join(error["message"] for error in errors)
    if not errors:
        return {"stdout": json.dumps(body)}
    return {"stdout": json.dumps(body), "stderr": f"gh: {said}\n", "exit": 1}


def subjects(*states):
    """An answer to the look-up: `OPEN`, `CLOSED`, `pull OPEN`, `pull MERGED` or None."""
    repository, errors = {}, []
    for index, state in enumerate(states):
        if state is None:
            repository[f"a{index}"] = None
            message = "Could not resolve to an issue or pull request with the number of 99."
            path = ["repository", f"a{index}"]
            errors.append({"type": "NOT_FOUND", "path": path, "message": message})
        elif state.startswith("pull "):
            repository[f"a{index}"] = {"__typename": "PullRequest", "pullState": state[5:]}
        else:
            repository[f"a{index}"] = {"__typename": "Issue", "issueState": state}
    return answer({"repository": repository}, errors)


def edges(issue):
    return [(edge.id, edge.place) for edge in issue.depends_on]


def test_one_call_reads_issues_with_both_kinds_of_dependencies(gh, read, tmp_path):
    gh.answers(
        page(
            issue(3, "text\r\nline\u0000", labels=["bug"], title="A \n title"),
            issue(5, blockers=[blocker(3)]),
            issue(
                7, "Intro\n\nDepends on #5, https://github.com/O/R/issues/3", blockers=[blocker(5)]
            ),
        )
    )
    loaded = read()
    three, five, seven = loaded.issues
    assert (three.id, three.title, three.body) == (3, "A title", "text\nline\ufffd")
    assert (three.labels, three.place) == (("bug",), "o/r#3")
    assert edges(five) == [("3", "o/r#5 (GitHub relation)")]
    assert edges(seven) == [("5", "o/r#7 (GitHub relation)"), ("3", "o/r#7, line 3 of its text")]
    assert loaded.warnings == (
        "#7: GitHub's relations say #5; its text also says #3 (both are kept)",
    )
    assert loaded.description == "GitHub o/r"
    (call,) = gh.calls
    assert call["argv"][:2] == ["api", "graphql"]
    assert call["cwd"] == str(tmp_path / "work")
    assert call["env"] == {"GH_PROMPT_DISABLED": "1", "NO_COLOR": "1"}
    assert (gh.variables(0)["owner"], gh.variables(0)["name"]) == ("o", "r")


def test_the_query_asks_for_what_the_reader_reads(gh, read):
    gh.answers(page(issue(1)))
    read()
    query = gh.variables(0)["query"]
    assert query.count("{") == query.count("}")
    for asked in (
        "blockedBy(first: 50) { nodes { number state repository { nameWithOwner } }",
        "issues(first: 100, after: $endCursor, states: [OPEN]",
        "pageInfo { hasNextPage endCursor }",
        "labels(first: 50) { nodes { name } }",
        "assignees(first: 50) { nodes { login } }",
    ):
        assert asked in query


def test_pages_are_read_one_after_the_other_and_an_issue_counts_once(gh, read):
    gh.answers(page(issue(2), issue(1), cursor="abc=="), page(issue(2), issue(3)))
    assert [each.id for each in read().issues] == [1, 2, 3]
    assert "endCursor" not in gh.variables(0)
    assert gh.variables(1)["endCursor"] == "abc=="


def test_a_server_without_relations_is_asked_again_without_them(gh, read):
    error = {
        "path": ["query", "repository", "issues", "nodes", "blockedBy"],
        "extensions": {"code": "undefinedField", "typeName": "Issue", "fieldName": "blockedBy"},
        "locations": [{"line": 10, "column": 9}],
        "message": "Field 'blockedBy' doesn't exist on type 'Issue'",
    }
    refusal = {
        "stdout": json.dumps({"errors": [error]}),
        "stderr": f"gh: {error['message']}\n",
        "exit": 1,
    }
    plain = {key: value for key, value in issue(2, "Depends on #1").items() if key != "blockedBy"}
    gh.answers(refusal, page(issue(1), plain))
    loaded = read()
    assert [edge.id for edge in loaded.issues[1].depends_on] == ["1"]
    assert loaded.warnings == (
        "this GitHub server knows no issue dependencies; only the texts of the issues count",
    )
    assert "blockedBy" in gh.variables(0)["query"]
    assert "blockedBy" not in gh.variables(1)["query"]


def test_filters_travel_as_variables_and_are_checked_again_here(gh, read):
    label = '") { x } # @/etc/passwd'
    chosen = issue(1, labels=[label.upper(), "b"], assignees=["Ann"])
    gh.answers(page(chosen, issue(2, labels=[label]), issue(3, labels=[label, "b"])))
    loaded = read(labels=[label, "B"], assignee="ann")
    assert [each.id for each in loaded.issues] == [1]
    assert loaded.description == f"GitHub o/r with label {label!r} and label 'B' and assignee ann"
    variables = gh.variables(0)
    assert (variables["label"], variables["assignee"]) == (label, "ann")
    assert "etc" not in variables["query"]
    assert "labels: [$label]" in variables["query"]
    assert "filterBy: {assignee: $assignee}" in variables["query"]
    assert "-F" not in gh.calls[0]["argv"]  # it would read a file for a value with @


def test_me_is_who_is_logged_in(gh, read):
    gh.answers(page(issue(1, assignees=["ann"]), issue(2, assignees=["bob"]), viewer="Bob"))
    assert [each.id for each in read(assignee="@me").issues] == [2]
    assert "viewer { login }" in gh.variables(0)["query"]
    assert "assignee" not in gh.variables(0)


def test_closed_dependencies_are_met_and_noted(gh, read):
    gh.answers(
        page(issue(7, "Depends on #2\n\nDepends on #4", blockers=[blocker(2, "CLOSED")])),
        subjects("CLOSED"),
    )
    loaded = read()
    assert loaded.issues[0].depends_on == ()
    assert "#7: its dependency #2 is closed, so it is met" in loaded.warnings
    assert "#7: its dependency #4 is closed, so it is met" in loaded.warnings


def test_what_the_texts_name_outside_the_listing_is_looked_up_in_one_call(gh, read):
    gh.answers(
        page(issue(7, "Depends on #2, #3, #4, #5, #99"), issue(8, "Depends on #3, #7")),
        subjects("CLOSED", "OPEN", "pull OPEN", "pull MERGED", None),
    )
    seven, eight = read().issues
    assert edges(seven) == [
        ("3", "o/r#7, line 1 of its text: #3 is open but not selected"),
        ("4", "o/r#7, line 1 of its text: #4 is a pull request that is still open"),
        ("99", "o/r#7, line 1 of its text: o/r has no issue #99"),
    ]
    assert [edge.id for edge in eight.depends_on] == ["3", "7"]
    assert len(gh.calls) == 2
    variables = gh.variables(1)
    assert [variables[f"n{index}"] for index in range(5)] == ["2", "3", "4", "5", "99"]
    assert variables["query"].count("issueOrPullRequest(number: $n") == 5


def test_an_open_dependency_outside_the_selection_stays_and_says_why(gh, read):
    gh.answers(page(issue(1), issue(2, "Depends on #1", labels=["bug"], blockers=[blocker(9)])))
    (two,) = read(labels=["bug"]).issues
    assert edges(two) == [
        ("9", "o/r#2 (GitHub relation): #9 is open but not selected with label 'bug'"),
        ("1", "o/r#2, line 1 of its text: #1 is open but not selected with label 'bug'"),
    ]
    assert len(gh.calls) == 1


def test_a_number_no_issue_can_have_is_not_asked_for(gh, read):
    gh.answers(page(issue(1, f"Depends on #0, #{'9' * 60} and #001")))
    (one,) = read().issues
    assert [edge.id for edge in one.depends_on] == ["0", "9" * 60, "1"]
    assert "has no issue #0" in one.depends_on[0].place
    assert len(gh.calls) == 1


def test_other_repositories_are_warned_of_and_not_waited_for(gh, read):
    gh.answers(
        page(
            issue(
                1,
                "Depends on a/b#4\n\n## Dependencies\n- numpy",
                blockers=[blocker(5, "OPEN", "a/b"), blocker(6, "CLOSED", "a/b"), None],
                more=True,
            )
        )
    )
    loaded = read()
    assert loaded.issues[0].depends_on == ()
    assert loaded.warnings == (
        "#1: a/b#5 is an issue of another repository; it is not waited for",
        "#1: one of its GitHub relations is hidden from this login; it is not waited for",
        "#1: GitHub's relations name more than 3 issues; the others are not waited for",
        "#1: a/b#4 is an issue of another repository; it is not waited for",
        "#1, line 4 of its text: 'numpy' under Dependencies names no issue",
    )


def test_without_a_name_gh_says_which_repository_it_is(gh, read):
    view = {"nameWithOwner": "o/r", "url": "https://github.com/o/r"}
    gh.answers({"stdout": json.dumps(view)}, page(issue(1)))
    assert len(read("github").issues) == 1
    assert gh.calls[0]["argv"] == ["repo", "view", "--json", "nameWithOwner,url"]
    assert "--hostname" not in gh.calls[1]["argv"]


def test_a_repository_on_another_host_is_asked_there(gh, read):
    view = {"nameWithOwner": "o/r", "url": "https://ghe.example/o/r"}
    gh.answers({"stdout": json.dumps(view)}, page(issue(1)))
    read("github")
    argv = gh.calls[1]["argv"]
    assert argv[argv.index("--hostname") + 1] == "ghe.example"


def test_a_relation_that_cannot_be_read_does_not_stop_the_rest(gh, read):
    path = ["repository", "issues", "nodes", 0, "blockedBy", "nodes", 0]
    error = {"type": "FORBIDDEN", "path": path, "message": "Resource not accessible"}
    gh.answers(page(issue(1, blockers=[None]), errors=[error]))
    assert "hidden" in read().warnings[0]


def test_an_issue_left_out_of_the_answer_is_an_error_not_a_smaller_batch(gh, read):
    path = ["repository", "issues", "nodes", 1, "blockedBy"]
    error = {"type": "FORBIDDEN", "path": path, "message": "Resource not accessible"}
    gh.answers(page(issue(1), None, errors=[error]))
    with pytest.raises(InputError, match="may not read"):
        read()


def test_no_matching_issue_is_refused(gh, read):
    gh.answers(page())
    with pytest.raises(InputError, match="no open issue with label 'x'") as caught:
        read(labels=["x"])
    assert caught.value.hint == "see what is there: gh issue list --repo o/r"


def test_a_listing_that_never_ends_is_an_error(gh, read):
    gh.answers(page(issue(1), cursor="a"), page(issue(2), cursor="a"))
    with pytest.raises(MachineError, match="not where"):
        read()


NOT_FOUND = answer(
    {"repository": None},
    [
        {
            "type": "NOT_FOUND",
            "path": ["repository"],
            "message": "Could not resolve to a Repository with the name 'o/r'.",
        }
    ],
)
BAD_CREDENTIALS = {
    "stdout": '{"message": "Bad credentials", "status": "401"}',
    "stderr": "gh: Bad credentials (HTTP 401)\nTry authenticating with:  gh auth login\n",
    "exit": 1,
}
FORBIDDEN = answer(
    {"repository": None},
    [
        {
            "type": "FORBIDDEN",
            "path": ["repository"],
            "message": "Resource protected by organization SAML enforcement.",
        }
    ],
)


@pytest.mark.parametrize(
    ("given", "kind", "message", "hint"),
    [
        (
            {
                "stderr": "To get started with GitHub CLI, please run:  gh auth login\n"
                "Alternatively, populate the GH_TOKEN environment variable with a GitHub API "
                "authentication token.\n",
                "exit": 4,
            },
            MachineError,
            "not logged in",
            "gh auth login",
        ),
        ({"stderr": "something new\n", "exit": 4}, MachineError, "not logged in", "gh auth login"),
        (BAD_CREDENTIALS, MachineError, "not logged in", "gh auth login"),
        (
            {
                "stderr": "error connecting to api.github.com\n"
                "check your internet connection or https://githubstatus.com\n",
                "exit": 1,
            },
            MachineError,
            "cannot be reached",
            "network",
        ),
        (
            {
                "stderr": 'Post "https://api.github.com/graphql": dial tcp 140.82.121.6:443: '
                "connect: connection refused\n",
                "exit": 1,
            },
            MachineError,
            "cannot be reached",
            "network",
        ),
        (NOT_FOUND, InputError, "does not exist", "github:owner/repo"),
        (FORBIDDEN, InputError, "may not read", "gh auth refresh"),
        (
            {"stdout": "<html>", "stderr": "gh: HTTP 502\n", "exit": 1},
            MachineError,
            "exit code 1",
            "by hand",
        ),
        ({"stdout": "", "exit": 0}, MachineError, "cannot be read", "gh --version"),
        ({"stdout": "hello", "exit": 0}, MachineError, "cannot be read", "gh --version"),
        ({"stdout": '{"data": {"x": 1}}'}, MachineError, "cannot be read", "gh --version"),
        ({"stdout": '{"data": null}'}, MachineError, "failed|cannot be read", "gh"),
        ({"stdout": "[]"}, MachineError, "cannot be read", "gh --version"),
    ],
)
def test_each_failure_of_gh_says_its_cause_and_what_mends_it(gh, read, given, kind, message, hint):
    gh.answers(given)
    with pytest.raises(kind, match=message) as caught:
        read()
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert caught.value.place == "github:o/r"
    complaint = given.get("stderr", "").splitlines()
    assert not complaint or complaint[0].removeprefix("gh: ") in " ".join(caught.value.causes)
    assert len(gh.calls) == 1


LIMITED = answer(
    None, [{"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 42."}]
)
ALREADY = {"stderr": "gh: API rate limit already exceeded for user ID 42.\n", "exit": 1}
LIMITS = {
    "stdout": '{"resources": {"graphql": {"limit": 5000, "remaining": 0, "reset": 1700000000}}}'
}
FAR_AWAY = {"stdout": LIMITS["stdout"].replace("1700000000", "9" * 18)}
SECONDARY = {
    "stdout": '{"message": "You have exceeded a secondary rate limit."}',
    "stderr": "gh: You have exceeded a secondary rate limit. (HTTP 403)\n",
    "exit": 1,
}


@pytest.mark.parametrize(
    ("given", "limits", "hint"),
    [
        (LIMITED, LIMITS, "try again after 2023-11-14 22:13 UTC"),
        (ALREADY, LIMITS, "try again after 2023-11-14 22:13 UTC"),
        (ALREADY, {"exit": 1}, "see when it resets: gh api rate_limit"),
        (ALREADY, FAR_AWAY, "see when it resets: gh api rate_limit"),
        (SECONDARY, {"exit": 1}, "wait a few minutes and try again"),
    ],
)
def test_a_used_up_rate_limit_says_when_to_try_again(gh, read, given, limits, hint):
    gh.answers(given, limits)
    with pytest.raises(MachineError, match="rate limit") as caught:
        read()
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    "complaint",
    [
        "no git remotes found",
        "none of the git remotes configured for this repository point to a known GitHub host. ...",
        "To tell gh about a new GitHub host, please use `gh auth login`: no git remotes found",
        "failed to run git: fatal: not a git repository (or any of the parent directories): .git",
    ],
)
def test_a_folder_without_a_github_remote_is_told_how_to_name_one(gh, read, complaint):
    gh.answers({"stderr": complaint + "\n", "exit": 1})
    with pytest.raises(InputError, match="which GitHub repository") as caught:
        read("github")
    assert caught.value.hint == "name it: --from github:owner/repo"


def test_a_missing_gh_is_a_machine_error(gh, read):
    (gh.folder / "gh").unlink()
    with pytest.raises(MachineError, match="not installed") as caught:
        read()
    assert "gh auth login" in caught.value.hint


def test_a_gh_that_cannot_be_started_is_a_machine_error(gh, read):
    (gh.folder / "gh").write_text("#!/nonexistent/interpreter\n")
    with pytest.raises(MachineError, match="cannot be started"):
        read()


def test_a_gh_that_does_not_answer_is_ended_and_reported(gh, read, monkeypatch):
    monkeypatch.setattr(gh_program, "TIMEOUT_SECONDS", 1.5)
    gh.answers({"hang": True})
    with pytest.raises(MachineError, match=r"within 1\.5 seconds"):
        read()
    for call in gh.calls:
        with pytest.raises(ProcessLookupError):
            os.kill(call["pid"], 0)


def test_a_failing_look_up_is_an_error_and_not_a_met_dependency(gh, read):
    gh.answers(page(issue(1, "Depends on #9")), NOT_FOUND)
    with pytest.raises(InputError, match="does not exist"):
        read()
