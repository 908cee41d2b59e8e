"""What the hooks of interactive agents tell: the real events, through the real command."""

import json
import os
import shlex
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gangline.agents import hooks, hooks_file
from gangline.agents.hooks_codex import thread_of

RECORDED = Path(__file__).parent / "recorded_hooks"
ENVIRONMENT = {"GANGLINE_AREA": "client", "GANGLINE_ISSUE": "7", "PATH": os.environ["PATH"]}
ANSWER = "(to answer: gangline attach client 7)"


def recorded(name):
    return [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]


class Attempt:
    """An attempt's folder, and an agent that runs its hooks."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "starting").touch()
        self.home = folder.parent / "home"
        self.home.mkdir(exist_ok=True)

    def run(self, argv, data=b"", check=True):
        environment = ENVIRONMENT | {"HOME": str(self.home)}
        return subprocess.run(argv, input=data, env=environment, capture_output=True, check=check)

    def claude(self, event, **changes):
        _, files = hooks.prepare("claude", str(self.folder))
        event = event | changes
        settings = json.loads(files[hooks.SETTINGS])["hooks"]
        (entry,) = settings[event["hook_event_name"]]
        (hook,) = entry["hooks"]
        done = self.run(["/bin/sh", "-c", hook["command"]], json.dumps(event).encode())
        assert done.stdout == b""  # which an agent would take for an answer
        return self.known()

    def codex(self, event, session=None):
        (option, setting), files = hooks.prepare("codex", str(self.folder), session)
        assert option == "-c"
        told = json.loads(files[hooks_file.HOOKS])
        assert told == {"kind": "codex", "session": session}
        argv = tomllib.loads(setting)["notify"]
        self.run([*argv, json.dumps(event)])
        return self.known()

    def known(self):
        try:
            return json.loads((self.folder / "progress.json").read_bytes())
        except FileNotFoundError:
            return {}


@pytest.fixture
def attempt(tmp_path):
    return Attempt(tmp_path / 'an attempt\'s "folder" $(touch x) é')


# -- Claude Code -----------------------------------------------------------------------------------


def test_turn_is_followed_from_its_prompt_to_its_end(attempt):
    seen = [attempt.claude(event) for event in recorded("claude-ok")]
    session = "2e9aa3fa-409d-4321-a9d6-bc21345e8a80"
    assert {known["session"] for known in seen} == {session}
    commit = "Bash: git add -- greeting.txt && git commit --quiet --message 'Add greeting.txt'"
    assert [known.get("tool") for known in seen] == [
        None,
        None,
        "Write: /repo/greeting.txt",
        None,
        f"{commit} && echo ste''p-1-is-done",
        None,
        None,
        None,
    ]
    assert [known.get("turnEnded") for known in seen] == [None] * 6 + [True] * 2
    assert seen[-1]["lastWords"] == "Done: greeting.txt is committed."
    assert seen[-1]["turns"] == 1
    assert not any("needs" in known or "failure" in known for known in seen)


def test_dialog_is_told_with_what_it_is_about_and_how_to_answer(attempt):
    *events, end = recorded("claude-asks")
    seen = [attempt.claude(event) for event in events]
    tool = "Bash: git add -- greeting.txt"
    assert seen[-2]["needs"].startswith(
        f"Auto mode can't check actions in this session and needs your choice: {tool}"
    )
    assert seen[-1]["needs"].startswith(f"Claude needs your permission: {tool}")
    assert all(known["needs"].endswith(ANSWER) for known in seen[-2:])
    assert "turnEnded" not in seen[-1]
    assert "needs" not in attempt.claude(end)


def test_notification_does_not_hide_what_is_asked_for(attempt):
    attempt.claude({"hook_event_name": "PermissionRequest", "tool_name": "Bash"})
    notified = {"hook_event_name": "Notification", "notification_type": "permission_prompt"}
    assert attempt.claude(notified)["needs"] == f"asks for permission: Bash {ANSWER}"


@pytest.mark.parametrize(
    ("event", "needs"),
    [
        (
            {
                "hook_event_name": "PermissionRequest",
                "tool_name": "Bash",
                "tool_input": {"command": "rm -r build"},
            },
            "asks for permission: Bash: rm -r build",
        ),
        (
            {
                "hook_event_name": "Notification",
                "message": "Claude needs your permission",
                "notification_type": "permission_prompt",
            },
            "Claude needs your permission",
        ),
        (
            {
                "hook_event_name": "PreToolUse",
                "tool_name": "AskUserQuestion",
                "tool_use_id": "1",
                "tool_input": {"questions": [{"question": "Left or right?"}]},
            },
            "asks: Left or right?",
        ),
        (
            {
                "hook_event_name": "Notification",
                "message": "Claude is waiting for your input",
                "notification_type": "idle_prompt",
            },
            "Claude is waiting for your input",
        ),
    ],
)
def test_what_only_a_person_can_do_is_told_until_it_goes_on(attempt, event, needs):
    assert attempt.claude(event)["needs"] == f"{needs} {ANSWER}"
    assert "needs" not in attempt.claude({"hook_event_name": "PostToolUse", "tool_name": "Bash"})
    attempt.claude(event)
    assert "needs" not in attempt.claude({"hook_event_name": "UserPromptSubmit"})


def test_other_notifications_ask_for_nothing(attempt):
    event = {"hook_event_name": "Notification", "message": "hello"}
    assert "needs" not in attempt.claude(event, notification_type="auth_success")
    attempt.claude({"hook_event_name": "Stop"})
    assert "needs" not in attempt.claude(event, notification_type="idle_prompt")


def test_usage_limit_is_told_with_its_end(attempt):
    for event in recorded("claude-limit")[:-1]:
        known = attempt.claude(event)
    assert known["limited"] is True
    assert known["limitedUntil"] == 4_070_908_800
    assert known["failureKind"] == "limit"
    assert known["limitText"].startswith("You've hit your 5-hour limit")
    assert known["turnEnded"] is True
    known = attempt.claude({"hook_event_name": "UserPromptSubmit"})
    assert {"limited", "failure", "failureKind", "turnEnded"} & set(known) == set()


@pytest.mark.parametrize(
    ("error", "text", "kind"),
    [
        ("authentication_failed", "Invalid API key · Fix external API key", "auth"),
        ("rate_limit", "API Error: Request rejected (429)", "api"),
        ("overloaded", "API Error: 529 Overloaded", "api"),
        ("unknown", "", "error"),
    ],
)
def test_failure_of_the_service_is_told_with_its_kind(attempt, error, text, kind):
    event = {"hook_event_name": "StopFailure", "error": error, "last_assistant_message": text}
    known = attempt.claude(event)
    assert (known["failureKind"], known["failure"]) == (kind, text or error)
    assert known["turnEnded"] is True
    assert "limited" not in known


def test_recorded_failure_ends_the_turn(attempt):
    for event in recorded("claude-error-401"):
        known = attempt.claude(event)
    assert known["failureKind"] == "auth"
    assert known["turnEnded"] is True


@pytest.mark.parametrize("kind", ["question", "background_tasks", "session_crons"])
def test_turn_does_not_end_the_attempt_while_something_is_open(attempt, kind):
    event = {"hook_event_name": "Stop"}
    if kind == "question":
        (attempt.folder / hooks_file.QUESTION).touch()
    else:
        event[kind] = [{"id": "1"}]
    assert "turnEnded" not in attempt.claude(event)
    if kind == "background_tasks":
        idle = {"hook_event_name": "Notification", "notification_type": "idle_prompt"}
        needs = attempt.claude(idle)["needs"]
        assert needs == f"its turn has ended, but 1 background tasks of it run on {ANSWER}"


def test_question_is_answered_by_whatever_a_person_says(attempt):
    folder = str(attempt.folder)
    hooks_file.open_question(folder)
    hooks_file.open_question(folder)
    assert hooks_file.has_question(folder)
    attempt.claude({"hook_event_name": "UserPromptSubmit"})
    assert not hooks_file.has_question(folder)
    hooks_file.close_question(folder)
    assert attempt.claude({"hook_event_name": "Stop"})["turnEnded"] is True


def test_call_that_ends_beside_another_leaves_that_one_in_flight(attempt):
    for key in ("1", "2"):
        attempt.claude({"hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_use_id": key})
    event = {"hook_event_name": "PostToolUse", "tool_name": "Bash"}
    assert attempt.claude(event, tool_use_id="1")["tool"] == "Bash"
    assert "tool" not in attempt.claude(event, tool_use_id="2")


def test_usage_is_of_this_attempt_only(attempt):
    lines = recorded("claude-transcript")
    # Three answers, of which two have two blocks; the first was of the attempt before.
    answers = list(dict.fromkeys(line["message"]["id"] for line in lines))
    assert (len(lines), len(answers)) == (5, 3)
    for line in lines:
        late = line["message"]["id"] != answers[0]
        line["timestamp"] = "2099-01-01T00:00:00.000Z" if late else "1999-01-01T00:00:00.000Z"
    path = attempt.folder / "transcript"
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"usage" torn')
    for name in ("Stop", "SessionEnd"):
        (attempt.folder / "progress.json").unlink(missing_ok=True)
        known = attempt.claude({"hook_event_name": name, "transcript_path": str(path)})
        assert (known["inputTokens"], known["outputTokens"]) == (2 * 1200, 2 * 40)
        assert "costUsd" not in known


def test_cost_is_what_this_attempt_added_to_its_session(attempt):
    path = attempt.folder / "transcript"
    lines = [
        {"type": "user", "timestamp": "1999-01-01T00:00:00.000Z"},
        {"type": "cost-state", "totalCostUSD": 0.25},
        {"type": "user", "timestamp": "2099-01-01T00:00:00.000Z"},
        {"type": "mode"},
        {"type": "cost-state", "totalCostUSD": 0.75},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    event = {"hook_event_name": "SessionEnd", "transcript_path": str(path)}
    assert attempt.claude(event)["costUsd"] == 0.5
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[2:]))
    assert attempt.claude(event)["costUsd"] == 0.75


def test_turn_that_a_hook_of_the_persons_own_keeps_going_can_be_seen(attempt):
    path = attempt.folder / "transcript"
    path.write_text("before\n")
    event = {"hook_event_name": "Stop", "transcript_path": str(path)}
    again = attempt.claude(event)["again"]
    assert (again["path"], again["from"]) == (str(path), 7)
    feedback = {
        "type": "user",
        "message": {"role": "user", "content": "Stop hook feedback:\n[x]: y"},
    }
    assert again["text"] in json.dumps(feedback, separators=(",", ":"))


def test_transcript_that_is_not_there_costs_the_usage_only(attempt):
    known = attempt.claude({"hook_event_name": "Stop", "transcript_path": "/nonexistent"})
    assert known == {"turnEnded": True, "turns": 1}


# -- Codex -----------------------------------------------------------------------------------------


def with_rollout(attempt, lines=None):
    """Codex keeps the thread that works, as it was recorded."""
    _, event = recorded("codex-ok")
    day = attempt.home / ".codex" / "sessions" / "2026" / "11" / "28"
    day.mkdir(parents=True)
    lines = lines or recorded("codex-rollout")
    path = day / f"rollout-2026-11-28T12-54-41-{event['thread-id']}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_turn_of_the_thread_that_works_is_told_and_the_titles_is_not(attempt):
    with_rollout(attempt)
    title, work = recorded("codex-ok")
    assert attempt.codex(title) == {}
    known = attempt.codex(work)
    assert known["session"] == work["thread-id"]
    assert known["turnEnded"] is True
    assert known["lastWords"] == "Done: greeting.txt is committed."
    rollout = Path(known["again"]["path"])
    assert known["again"]["from"] == rollout.stat().st_size
    assert work["thread-id"] in rollout.name
    assert attempt.codex(title | {"thread-id": "another"}) == known


def test_thread_that_is_gone_on_with_is_known_by_its_id(attempt):
    title, work = recorded("codex-ok")
    assert attempt.codex(title, work["thread-id"]) == {}
    assert attempt.codex(work, work["thread-id"])["turnEnded"] is True


@pytest.mark.parametrize(
    "changes",
    [{"source": {"subagent": {}}}, {"thread_source": "subagent"}, {"cwd": "/elsewhere"}],
)
def test_thread_that_no_person_began_here_is_not_the_attempts(attempt, changes):
    meta, *rest = recorded("codex-rollout")
    meta["payload"] |= changes
    with_rollout(attempt, [meta, *rest])
    assert attempt.codex(recorded("codex-ok")[1]) == {}


def test_open_question_keeps_codex_too(attempt):
    with_rollout(attempt)
    (attempt.folder / hooks_file.QUESTION).touch()
    known = attempt.codex(recorded("codex-ok")[1])
    assert "turnEnded" not in known
    assert known["session"]


def test_usage_of_codex_is_what_this_attempt_added(attempt):
    meta, *counts = recorded("codex-rollout")
    assert len(counts) == 3
    for line, year in zip(counts, (1999, 2099, 2099), strict=True):
        line["timestamp"] = f"{year}-01-01T00:00:00.000Z"
    with_rollout(attempt, [meta, *counts])
    known = attempt.codex(recorded("codex-ok")[1])
    assert (known["inputTokens"], known["outputTokens"]) == (2 * 1200, 2 * 40)


def test_file_of_the_thread_is_known_by_its_name_and_its_first_line(attempt, tmp_path):
    with_rollout(attempt)
    (path,) = attempt.home.rglob("rollout-*")
    assert thread_of(str(path)) == recorded("codex-ok")[1]["thread-id"]
    assert thread_of(str(path.with_name("history.jsonl"))) is None
    sub = path.with_name(path.name.replace("ec5-", "ec6-").replace("bff7d7", "bff7d8"))
    meta, *_ = recorded("codex-rollout")
    meta["payload"]["source"] = {"subagent": {}}
    sub.write_text(json.dumps(meta) + "\n")
    assert thread_of(str(sub)) is None
    sub.write_text("")
    assert thread_of(str(sub)) is None


def test_thread_id_that_is_a_pattern_is_nobodys(attempt):
    with_rollout(attempt)
    event = recorded("codex-ok")[1] | {"thread-id": "*"}
    assert attempt.codex(event) == {}


# -- the command -----------------------------------------------------------------------------------


def test_agent_without_hooks_needs_nothing(tmp_path):
    assert hooks.prepare(None, str(tmp_path)) == ([], {})


def test_unknown_kind_is_said(tmp_path):
    with pytest.raises(KeyError):
        hooks.prepare("parrot", str(tmp_path))


def test_settings_name_no_file_that_is_not_written(attempt):
    argv, files = hooks.prepare("claude", str(attempt.folder))
    assert argv == ["--settings", str(attempt.folder / hooks.SETTINGS)]
    assert set(files) == {hooks.SETTINGS}


def test_hostile_path_is_one_word_of_codex_setting(tmp_path):
    path = f"{tmp_path}/a\"b\\c'\x7f\té"
    (_, setting), _ = hooks.prepare("codex", path, "T")
    assert tomllib.loads(setting)["notify"][-3:] == [path, "codex", "T"]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff"])
def test_event_that_cannot_be_read_is_said_and_changes_nothing(attempt, data):
    _, files = hooks.prepare("claude", str(attempt.folder))
    hook = json.loads(files[hooks.SETTINGS])["hooks"]["Stop"][0]["hooks"][0]
    done = attempt.run(["/bin/sh", "-c", hook["command"]], data, check=False)
    assert done.returncode == 1  # 2 would be an answer
    assert done.stderr.startswith(b"gangline could not note what happened")
    assert attempt.known() == {}


def test_hooks_at_the_same_time_lose_nothing(attempt):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(attempt.claude, [{"hook_event_name": "Stop"}] * 12))
    assert attempt.known()["turns"] == 12


def test_session_is_durable_before_the_hook_returns(attempt, monkeypatch):
    calls = []

    def noting(name):
        call = getattr(os, name)
        return lambda *arguments, **options: (calls.append(name), call(*arguments, **options))[1]

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, noting(name))
    hooks_file.change(str(attempt.folder), lambda known: known.update(session="one"))
    assert calls == ["fsync", "rename", "fsync"]
    calls.clear()
    hooks_file.change(str(attempt.folder), lambda known: known.update(tool="Bash"))
    assert calls == ["rename"]
    calls.clear()
    hooks_file.change(str(attempt.folder), lambda known: known.update(tool="Bash"))
    assert calls == []


def test_hook_imports_little(attempt):
    """An agent waits for it twice a tool call."""
    _, files = hooks.prepare("claude", str(attempt.folder))
    hook = json.loads(files[hooks.SETTINGS])["hooks"]["PreToolUse"][0]["hooks"][0]
    python, *rest = shlex.split(hook["command"])
    event = {"hook_event_name": "PreToolUse", "tool_name": "Bash"}
    done = attempt.run([python, "-X", "importtime", *rest], json.dumps(event).encode())
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert "gangline.agents.hooks_claude" in imported
    assert imported & {"typing", "subprocess", "glob", "shlex", "msgspec", "datetime"} == set()
