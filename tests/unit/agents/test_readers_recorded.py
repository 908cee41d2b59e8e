"""What readers make of what the real programs printed (tests/agents/recorded)."""

import json
from datetime import datetime

import pytest
from reader_streams import READERS, output_of, recorded, runs, strict_reader

NOW = 1795866360.0
FAR = 4070908800.0  # the reset time that the stub gives, 1 January 2099


def read(agent: str, scenario: str):
    run = runs(agent)[scenario]
    made = strict_reader(READERS[agent], cwd="/repo", clock=lambda: NOW)
    shown = made.feed(output_of(agent, scenario))
    shown += made.finish(run["exit"] if run["exit"] >= 0 else None)
    return made.progress, shown.decode()


RUNS = recorded()
SUCCESSES = [
    (agent, scenario)
    for agent, scenario in RUNS
    if runs(agent)[scenario]["exit"] == 0 and runs(agent)[scenario]["commits"]
]


@pytest.mark.parametrize(("agent", "scenario"), SUCCESSES)
def test_work_that_was_committed_is_no_failure(agent, scenario):
    progress, shown = read(agent, scenario)
    known = progress.as_dict()
    assert not {"failure", "failureKind", "limited", "retrying", "needs", "tool"} & set(known)
    assert progress.input_tokens > progress.output_tokens > 0
    assert progress.last_words
    if agent != "aider":
        assert progress.session
        assert "\n■ done: " in shown
        assert '{"' not in shown  # no raw events


@pytest.mark.parametrize(("agent", "scenario"), RUNS)
def test_what_is_known_is_json_of_modest_size(agent, scenario):
    progress, shown = read(agent, scenario)
    assert len(json.dumps(progress.as_dict(), allow_nan=False)) < 6_000
    assert all(len(line) <= 2_100 for line in shown.splitlines())


@pytest.mark.parametrize(
    ("agent", "scenario", "kind", "words"),
    [
        ("claude", "denied", "permission", "permission was denied: Write: /repo/greeting.txt"),
        ("claude", "error-401", "auth", "Invalid API key"),
        ("claude", "error-429", "api", "429"),
        ("claude", "error-500", "api", "500"),
        ("claude", "error-529", "api", "529 Overloaded"),
        ("claude", "limit", "limit", "You've hit your 5-hour limit"),
        ("claude", "limit-in-work", "limit", "You've hit your 5-hour limit"),
        ("claude", "unknown-id", "no-session", "No conversation found"),
        ("claude", "id-in-use", "session-in-use", "already in use"),
        ("claude", "interrupted", "error", "it was interrupted"),
        ("codex", "error-401", "auth", "401 Unauthorized"),
        ("codex", "error-429", "api", "429 Too Many Requests"),
        ("codex", "error-500", "api", "high demand"),
        ("codex", "cut-for-ever", "api", "stream disconnected"),
        ("codex", "limit", "limit", "hit your usage limit"),
        ("codex", "limit-in-work", "limit", "hit your usage limit"),
        ("codex", "unknown-id", "no-session", "no rollout found"),
        ("opencode", "error-401", "auth", "Incorrect API key"),
        ("opencode", "unknown-id", "no-session", "Session not found"),
        ("qwen", "error-401", "auth", "[API Error: 401"),
        ("qwen", "cut", "api", "[API Error: terminated"),
        ("qwen", "id-in-use", "session-in-use", "already in use"),
        ("qwen", "unknown-id", "no-session", "No saved session found"),
        ("aider", "error-401", "auth", "not able to authenticate"),
        ("aider", "limit", "api", "exceeded your current quota"),
    ],
)
def test_a_failure_is_named_whatever_the_exit_code(agent, scenario, kind, words):
    progress, shown = read(agent, scenario)
    assert progress.failure_kind == kind
    assert words in progress.failure
    assert f"\n■ failed: {progress.failure[:60]}" in f"\n{shown}"
    assert progress.retrying is None
    assert progress.limited == (kind == "limit")


@pytest.mark.parametrize("scenario", ["limit", "limit-in-work", "limit-today"])
def test_claudes_reset_time_is_the_one_of_its_event(scenario):
    events = [json.loads(line) for line in output_of("claude", scenario).splitlines()]
    infos = [event["rate_limit_info"] for event in events if "rate_limit_info" in event]
    assert infos[-1]["status"] == "rejected"
    assert read("claude", scenario)[0].limited_until == infos[-1]["resetsAt"]


def test_codexs_reset_time_is_read_in_the_local_zone():
    progress, _ = read("codex", "limit")
    offset = datetime.fromtimestamp(NOW).astimezone().utcoffset().total_seconds()
    assert progress.limited_until == FAR - offset
    assert "try again at Jan 1st, 2099" in progress.limit_text


@pytest.mark.parametrize("scenario", ["cut", "cut-in-work", "retried-529"])
def test_a_retry_that_succeeded_is_told_and_forgotten(scenario):
    progress, shown = read("claude", scenario)
    assert "↻ " in shown
    assert progress.failure is progress.retrying is None
    assert not progress.limited


@pytest.mark.parametrize("agent", ["claude", "codex", "qwen"])
def test_a_call_in_flight_at_a_kill_is_named(agent):
    progress, shown = read(agent, "killed")
    assert "greeting.part" in progress.tool
    assert progress.failure is None
    assert "■ cut off" in shown


@pytest.mark.parametrize("agent", ["claude", "codex", "opencode", "qwen"])
def test_a_killed_run_still_tells_its_session(agent):
    assert read(agent, "killed")[0].session


@pytest.mark.parametrize("agent", ["claude", "qwen"])
def test_the_session_that_was_chosen_is_the_one_that_is_seen(agent):
    argv = runs(agent)["ok"]["argv"]
    assert read(agent, "ok")[0].session == argv[argv.index("--session-id") + 1]


def test_what_the_stub_counted_is_what_is_known():
    """Each answer of the stub takes 1,200 tokens in, 800 of them cached, and 40 out."""
    for agent in ("claude", "codex", "opencode", "qwen"):
        progress, _ = read(agent, "ok")
        assert (progress.input_tokens, progress.output_tokens) == (3600, 120), agent
    assert read("claude", "ok")[0].cost_usd == pytest.approx(0.00768)


def test_the_account_reads_like_a_story():
    progress, shown = read("claude", "ok")
    assert shown.replace(progress.session, "ID") == (
        "· claude-opus-5-5, session ID\n"
        "› I write greeting.txt.\n"
        "✎ greeting.txt\n"
        "› Now I commit it.\n"
        "⏺ Bash: git add -- greeting.txt && git commit --quiet --message 'Add greeting.txt'"
        " && echo ste''p-1-is-done\n"
        "  ⎿ step-1-is-done\n"
        "› Done: greeting.txt is committed.\n"
        "■ done: 3.6k in, 120 out, $0.0077\n"
    )


def test_the_command_that_codex_wraps_in_a_shell_is_shown_without_it():
    assert "⏺ Bash: git add -- greeting.txt && git commit" in read("codex", "ok")[1]


def test_aiders_error_that_it_broke_into_lines_is_whole():
    assert read("aider", "error-401")[0].failure == (
        "litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key"
        " provided. The API provider is not able to authenticate you. Check your API key."
    )


def test_aiders_figures_and_answer_are_read():
    progress, _ = read("aider", "ok")
    assert (progress.input_tokens, progress.output_tokens) == (2500, 22)
    assert progress.cost_usd == 0.0026
    assert progress.last_words.startswith("I write the file.")


def test_codexs_failed_commit_in_a_sandbox_is_shown_but_only_git_tells_of_it():
    progress, shown = read("codex", "sandbox")
    assert "  ⎿ exit 128: fatal: Unable to create" in shown
    assert progress.failure is None
