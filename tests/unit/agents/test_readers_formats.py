"""What single events mean, where no recorded run shows it; Gemini and Copilot wholly so (doc)."""

import json

import pytest
from reader_streams import documented, strict_reader

from gangline.agents.readers.causes import is_usage_limit, kind_of

NOW = 1795866360.0


def read(name: str, *events: dict | bytes, code: int | None = 0):
    made = strict_reader(name, cwd="/repo", clock=lambda: NOW)
    lines = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    shown = b"".join(made.feed(line + b"\n") for line in lines)
    if code != "running":
        shown += made.finish(code)
    return made.progress, shown.decode()


# -- Claude Code ---------------------------------------------------------------------------------

CLAUDE = "claude-stream-json"
RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "Done."}


def answer(*blocks: dict, key: str = "m1", **more) -> dict:
    usage = {"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 3}
    return {"type": "assistant", "message": {"id": key, "content": list(blocks), "usage": usage},
            **more}  # fmt: skip


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def call(key: str, name: str, **given) -> dict:
    return {"type": "tool_use", "id": key, "name": name, "input": given}


def result_of(key: str, content, **more) -> dict:
    block = {"type": "tool_result", "tool_use_id": key, "content": content, **more}
    return {"type": "user", "message": {"content": [block]}}


def rate_limit(status: str, **more) -> dict:
    info = {"status": status, "resetsAt": 1795870000, "rateLimitType": "five_hour", **more}
    return {"type": "rate_limit_event", "rate_limit_info": info}


@pytest.mark.parametrize("status", ["allowed", "allowed_warning", "something_new"])
def test_a_limit_that_is_only_near_is_none(status):
    progress, _ = read(CLAUDE, rate_limit(status), answer(text("Hi.")), RESULT)
    assert not progress.limited
    assert progress.failure is None


def test_a_limit_that_paid_usage_goes_beyond_is_none():
    progress, _ = read(CLAUDE, rate_limit("rejected", isUsingOverage=True), code="running")
    assert not progress.limited


def test_a_limit_is_known_at_once_and_over_when_the_model_answers():
    progress, _ = read(CLAUDE, rate_limit("rejected"), code="running")
    assert (progress.limited, progress.limited_until) == (True, 1795870000)
    progress, _ = read(CLAUDE, rate_limit("rejected"), answer(text("Hi.")), RESULT)
    assert not {"limited", "limitedUntil", "limitText", "failure"} & set(progress.as_dict())


def test_a_limit_that_is_reached_by_the_last_answer_fails_nothing():
    progress, _ = read(CLAUDE, answer(text("Done.")), RESULT, rate_limit("rejected"))
    assert progress.limited
    assert progress.failure is None


def test_a_reset_time_in_milliseconds_is_understood():
    progress, _ = read(CLAUDE, rate_limit("rejected", resetsAt=1795870000000), code="running")
    assert progress.limited_until == 1795870000


def test_the_limit_text_of_older_versions_is_understood():
    said = "Claude AI usage limit reached|1795870000"
    progress, _ = read(CLAUDE, {**RESULT, "is_error": True, "result": said}, code=1)
    assert (progress.failure_kind, progress.limited_until) == ("limit", 1795870000)


def test_an_agent_that_speaks_of_limits_is_not_limited():
    said = "You've hit your usage limit · resets 5pm (UTC)"
    progress, _ = read(CLAUDE, answer(text(f"The message is: {said}")), {**RESULT, "result": said})
    assert not progress.limited
    assert progress.failure is None


def test_tokens_are_counted_once_an_answer_and_replaced_by_the_final_ones():
    parts = [answer(text("a")), answer(call("t", "Bash", command="ls")), answer(key="m2")]
    progress, _ = read(CLAUDE, *parts, code="running")
    assert (progress.input_tokens, progress.output_tokens) == (2000, 6)
    usage = {"inputTokens": 5, "cacheReadInputTokens": 7, "outputTokens": 11}
    final = {**RESULT, "modelUsage": {"a": usage, "b": usage}, "total_cost_usd": 0.5}
    progress, _ = read(CLAUDE, *parts, final)
    assert (progress.input_tokens, progress.output_tokens, progress.cost_usd) == (24, 22, 0.5)


def test_calls_in_flight_are_named_until_they_are_answered():
    calls = answer(call("t1", "Bash", command="make test"), call("t2", "Read", file_path="/repo/a"))
    progress, _ = read(CLAUDE, calls, code="running")
    assert progress.tool == "Bash: make test (and 1 more)"
    progress, _ = read(CLAUDE, calls, result_of("t1", "ok"), code="running")
    assert progress.tool == "Read: a"
    progress, _ = read(CLAUDE, calls, result_of("t1", "ok"), result_of("t2", "x"), code="running")
    assert progress.tool is None


def test_an_answer_that_is_too_long_to_read_ends_the_call():
    made, _ = read(CLAUDE, answer(call("t1", "Read", file_path="a.png")),
                   b'{"type":"user","x":"' + b"a" * 1_100_000 + b'"}', code="running")  # fmt: skip
    assert made.tool is None


def test_a_failed_command_is_told_by_its_code_and_first_line():
    events = (
        answer(call("t", "Bash", command="make\ntest")),
        result_of("t", "Exit code 2\n\n3 failed\nsee a\nsee b", is_error=True),
    )
    _, shown = read(CLAUDE, *events, code="running")
    assert shown == "⏺ Bash: make test\n  ⎿ exit 2: 3 failed (+2 lines)\n"


def test_what_a_subagent_does_stands_further_in():
    _, shown = read(CLAUDE, answer(text("Hi."), parent_tool_use_id="t0"), code="running")
    assert shown == "  › Hi.\n"


def test_a_long_speech_is_cut_and_remembered_up_to_its_limit():
    said = "\n".join(f"line {number}" for number in range(2000))
    progress, shown = read(CLAUDE, answer(text(said)), code="running")
    assert len(shown.splitlines()) <= 14
    assert len(progress.last_words) == 2000


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"subtype": "error_max_turns"}, "error"),
        ({"subtype": "error_during_execution", "errors": ["No conversation found"]}, "no-session"),
        ({"subtype": "success", "stop_reason": "refusal"}, "error"),
        ({"subtype": "success", "is_error": True, "api_error_status": 529, "result": "x"}, "api"),
        ({"subtype": "error_during_execution", "errors": ["busy"],
          "startup_failure_reason": "session_held_by_background"}, "session-in-use"),
    ],
)  # fmt: skip
def test_every_bad_result_is_a_failure_with_exit_code_0_too(event, kind):
    progress, _ = read(CLAUDE, {"type": "result", **event})
    assert progress.failure
    assert progress.failure_kind == kind


def test_the_last_of_several_results_counts():
    bad = {"type": "result", "subtype": "error_during_execution", "is_error": True}
    assert read(CLAUDE, bad, RESULT)[0].failure is None


def test_an_end_without_a_result_is_a_failure_unless_it_was_killed():
    assert read(CLAUDE, answer(text("Hi.")), code=0)[0].failure
    for code in (None, 129, 143):
        assert read(CLAUDE, answer(text("Hi.")), code=code)[0].failure is None


def test_output_in_another_format_is_no_failure_but_counts_no_event():
    progress, shown = read(CLAUDE, b"hello", b"[1]", b'{"a":1}')
    assert progress.as_dict() == {"events": 0}
    assert shown.startswith('hello\n[1]\n{"a":1}\n')


def test_an_exit_without_a_word_names_its_code():
    progress, _ = read(CLAUDE, code=7)
    assert (progress.failure, progress.failure_kind) == ("exit code 7", "error")


def test_waiting_for_a_login_needs_a_person_until_something_happens():
    waits = {"type": "auth_status", "isAuthenticating": True, "output": ["Open https://x"]}
    assert read(CLAUDE, waits, code="running")[0].needs == "log in: Open https://x"
    assert read(CLAUDE, waits, answer(text("Hi.")), code="running")[0].needs is None
    line = b"Please visit the following URL to authorize: https://x"
    assert read(CLAUDE, line, code="running")[0].needs.startswith("log in: Please visit")


def test_a_retry_is_told_with_its_number():
    retry = {"type": "system", "subtype": "api_retry", "attempt": 3, "max_retries": 10,
             "error_status": 529, "error": "overloaded"}  # fmt: skip
    progress, shown = read(CLAUDE, retry, code="running")
    assert progress.retrying == "529 overloaded, attempt 3 of 10"
    assert shown == "↻ 529 overloaded, attempt 3 of 10\n"
    assert read(CLAUDE, retry, answer(text("Hi.")), code="running")[0].retrying is None


# -- Codex, OpenCode, Qwen -----------------------------------------------------------------------


def item(kind: str, stage: str = "completed", **more) -> dict:
    return {"type": f"item.{stage}", "item": {"id": "i1", "type": kind, **more}}


def test_codexs_other_calls_are_told():
    _, shown = read(
        "codex-json",
        item("mcp_tool_call", "started", server="docs", tool="find", status="in_progress"),
        item("mcp_tool_call", server="docs", tool="find", status="failed", error={"message": "no"}),
        item("web_search", query="tmux\nlist"),
        item("file_change", changes=[{"path": "/repo/a", "kind": "delete"}], status="failed"),
        item("error", message="not an end"),
        code="running",
    )
    assert shown.splitlines() == [
        "⏺ docs: find", "  ⎿ failed: no", "⏺ search: tmux list", "✎ a (deleted)", "  ⎿ failed",
        "· not an end",
    ]  # fmt: skip


def test_a_command_that_codex_was_not_allowed_is_a_failure():
    end = {"type": "turn.completed", "usage": {}}
    declined = item("command_execution", command="git push", status="declined")
    progress, _ = read("codex-json", declined, end)
    assert progress.failure_kind == "permission"
    assert "git push" in progress.failure


def test_codexs_service_error_in_json_is_opened():
    message = json.dumps({"error": {"message": "The model is not known"}, "status": 400})
    progress, _ = read("codex-json", {"type": "turn.failed", "error": {"message": message}}, code=1)
    assert progress.failure == "The model is not known"


def test_codexs_error_before_a_good_turn_is_forgotten():
    events = {"type": "error", "message": "odd"}, {"type": "turn.completed", "usage": {}}
    assert read("codex-json", *events)[0].failure is None


def test_codex_that_connects_again_is_retrying_and_has_not_failed():
    again = {"type": "error", "message": "Reconnecting... 2/5 (stream disconnected)"}
    progress, _ = read("codex-json", again, code="running")
    assert progress.retrying == "Reconnecting... 2/5 (stream disconnected)"
    assert progress.failure is None
    progress, _ = read("codex-json", again, item("agent_message", text="Hi."), code="running")
    assert progress.retrying is None


def part(kind: str, **fields) -> dict:
    return {"type": kind, "sessionID": "ses_1", "part": fields}


def test_opencodes_cost_is_the_sum_of_its_steps_and_none_where_it_is_not_known():
    step = part("step_finish", reason="stop", cost=0.25, tokens={"input": 1, "output": 2,
                "reasoning": 3, "cache": {"read": 4, "write": 5}})  # fmt: skip
    progress, _ = read("opencode-json", step, step)
    assert (progress.cost_usd, progress.input_tokens, progress.output_tokens) == (0.5, 20, 10)
    assert read("opencode-json", part("step_finish", reason="stop", cost=0))[0].cost_usd is None


def test_a_call_that_opencode_was_not_allowed_is_a_failure():
    state = {"status": "error", "input": {"command": "git push"},
             "error": "The user rejected permission to use this specific tool call."}  # fmt: skip
    end = part("step_finish", reason="stop")
    progress, _ = read("opencode-json", part("tool_use", tool="bash", state=state), end)
    assert progress.failure == "permission was denied: bash: git push"


def test_a_patch_that_codex_was_not_allowed_is_a_failure():
    why = "patch rejected: writing is blocked by read-only sandbox"
    log = f"2026-01-01T00:00:00Z ERROR codex_core::tools::router: error={why}; rejected by user"
    end = {"type": "turn.completed", "usage": {}}
    progress, _ = read("codex-json", f"{log} approval settings\n".encode(), end)
    assert progress.failure == f"permission was denied: {why}"
    assert progress.failure_kind == "permission"
    assert read("codex-json", f"{why}\n".encode(), end)[0].failure is None


def test_two_opencodes_that_race_for_their_database_are_told_so():
    said = b"Error: Unexpected error\n\nFailed query: \n  CREATE TABLE x (\n  );\nparams: \n"
    failure = read("opencode-json", said, code=1)[0].failure
    assert failure.startswith("exit code 1: its database refused a query")


def test_opencode_that_ends_before_its_last_step_has_failed():
    assert read("opencode-json", part("step_finish", reason="tool-calls"))[0].failure
    assert read("opencode-json", part("step_finish", reason="stop"))[0].failure is None


@pytest.mark.parametrize("reason", ["length", "error", "content-filter"])
def test_a_step_of_opencode_that_ended_badly_is_a_failure(reason):
    assert read("opencode-json", part("step_finish", reason=reason))[0].failure


LOGGED = (
    'timestamp=2026-11-28T13:10:59.857Z level=ERROR run=1ea7cfac message="stream error"'
    " providerID=stub modelID=stub-model session.id=ses_1 small={} agent=build mode=primary"
    ' error.error="AI_APICallError: {} (cause: Error: {})"'
)


def test_opencode_that_tries_again_is_known_by_its_log_alone():
    why = "Cannot connect to API: Unable to connect."
    progress, shown = read("opencode-json", LOGGED.format("false", why, why).encode(), code=None)
    assert shown.startswith(f"↻ AI_APICallError: {why}\n")
    assert progress.as_dict() == {"session": "ses_1", "events": 1}
    progress, _ = read("opencode-json", LOGGED.format("false", why, why).encode(), code="running")
    assert progress.retrying == f"AI_APICallError: {why}"


def test_opencodes_limit_is_known_by_its_log_and_over_with_the_next_step():
    why = "You've hit your usage limit, try again in 2 hours"
    line = LOGGED.format("false", why, why).encode()
    progress, _ = read("opencode-json", line, code="running")
    assert progress.limited_until == NOW + 7200
    progress, _ = read("opencode-json", line, part("step_finish", reason="stop"), code="running")
    assert not progress.limited
    assert progress.retrying is None


def test_what_else_opencode_logs_is_shown_only_if_it_is_an_error():
    lines = (LOGGED.format("true", "x", "x"), "timestamp=2026-11-28T13:10:59Z level=WARN message=a",
             'timestamp=2026-11-28T13:10:59Z level=ERROR message="out of luck"')  # fmt: skip
    progress, shown = read("opencode-json", *(line.encode() for line in lines), code="running")
    assert shown == lines[2] + "\n"
    assert progress.retrying is None


def test_qwens_error_that_it_got_over_is_forgotten():
    events = answer(text("[API Error: 500 odd]")), answer(text("Done."), key="m2"), RESULT
    assert read("qwen-stream-json", *events)[0].failure is None


def test_qwens_error_after_what_it_said_is_seen():
    said = "I write it.[API Error: terminated (cause: other side closed)]"
    progress, _ = read("qwen-stream-json", answer(text(said)), {**RESULT, "result": said})
    assert progress.failure == "[API Error: terminated (cause: other side closed)]"
    assert progress.failure_kind == "api"


def test_a_coloured_error_is_told_without_its_colours():
    progress, _ = read("opencode-json", b"\x1b[91m\x1b[1mError: \x1b[0mSession not found", code=1)
    assert progress.failure == "exit code 1: Error: Session not found"
    assert progress.failure_kind == "no-session"


# -- Gemini and Copilot (doc), plain programs ----------------------------------------------------


def read_documented(agent: str, scenario: str, code: int | None = 0):
    stream = dict(documented(agent))[f"{agent}-{scenario}"]
    name = "gemini-json" if agent == "gemini" else "copilot-json"
    return read(name, *stream.splitlines(), code=code)


def test_geminis_object_is_read_out_of_what_stands_around_it():
    progress, shown = read_documented("gemini", "object")
    assert progress.as_dict() == {
        "session": "a1c15e91-8306-435e-bf9a-e0fc885905d5", "inputTokens": 24939,
        "outputTokens": 174, "lastWords": "I wrote greeting.txt and committed it.", "events": 1,
    }  # fmt: skip
    assert "↻ Attempt 1 failed" in shown
    assert '"tokens"' not in shown


def test_geminis_quota_is_a_limit_with_its_time():
    progress, _ = read_documented("gemini", "object-quota", code=1)
    assert progress.failure_kind == "limit"
    assert progress.limited_until == NOW + 5 * 3600 + 32 * 60 + 14


def test_geminis_events_are_a_running_account():
    progress, shown = read_documented("gemini", "events")
    assert "› I write greeting.txt.\n✎ greeting.txt\n" in shown
    assert "⏺ run_shell_command: make test\n  ⎿ failed: 3 failed\n" in shown
    assert (progress.input_tokens, progress.output_tokens) == (1200, 50)
    assert progress.failure is None


def test_geminis_exit_code_for_a_missing_login_is_understood():
    assert read("gemini-json", code=41)[0].failure_kind == "auth"


def test_copilots_run_is_told():
    progress, shown = read_documented("copilot", "0-ok")
    assert "› I write greeting.txt.\n✎ greeting.txt\n⏺ bash: make test\n  ⎿ 3 passed\n" in shown
    assert (progress.input_tokens, progress.output_tokens) == (1200, 50)
    assert progress.cost_usd is None
    assert progress.failure is None


def test_copilots_quota_is_a_limit():
    progress, _ = read_documented("copilot", "quota", code=1)
    assert progress.failure_kind == "limit"
    assert progress.limit_text == "You have exceeded your monthly quota"


def test_a_call_that_copilot_was_not_allowed_is_a_failure():
    progress, _ = read_documented("copilot", "denied")
    assert progress.failure == "permission was denied: bash: git push"
    assert progress.needs is None


def test_a_denial_that_only_the_call_tells_is_a_failure_of_copilot():
    start = {"type": "tool.execution_start", "data": {"toolCallId": "c", "toolName": "bash"}}
    error = {"message": "no", "code": "denied"}
    end = {"type": "tool.execution_complete",
           "data": {"toolCallId": "c", "success": False, "error": error}}  # fmt: skip
    assert read("copilot-json", start, end)[0].failure == "permission was denied: bash"


def test_copilots_question_needs_a_person():
    asked = {"type": "user_input.requested", "data": {"question": "Which colour?"}}
    assert read("copilot-json", asked, code="running")[0].needs == "an answer: Which colour?"


def test_a_plain_program_is_shown_as_it_is_with_its_last_line_remembered():
    made = strict_reader("plain")
    assert made.feed(b"50%\r60%") == b"50%\r60%"
    assert made.feed(b'\n{"type":"x"}\nlast \xff one') == b'\n{"type":"x"}\nlast \xff one'
    assert made.finish(3) == b""
    assert made.progress.failure == "exit code 3: last \ufffd one"
    assert made.progress.last_words == "last \ufffd one"


def test_only_the_end_of_a_plain_programs_output_is_kept():
    made = strict_reader("plain")
    for _ in range(50):
        made.feed(b"x" * 1000)
    assert len(made._end) <= 8192
    made.finish(0)
    assert len(made.progress.last_words) == 2000


def test_text_that_utf8_cannot_hold_is_replaced():
    line = b'{"type":"assistant","message":{"content":[{"type":"text","text":"a\\ud800b"}]}}'
    progress, shown = read(CLAUDE, line, code="running")
    assert progress.last_words == "a?b"
    assert shown == "› a?b\n"


def test_a_plain_program_that_ends_well_has_no_failure():
    assert read("plain", b"done")[0].as_dict() == {"lastWords": "done", "events": 1}


# -- causes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("You\u2019ve hit your usage limit. Try again at 5 PM.", "limit"),
        ("5-hour limit reached ∙ resets 3pm", "limit"),
        ("You're out of extra usage · resets 3pm", "limit"),
        ("429 Too Many Requests", "api"),
        ("This request would exceed your account's rate limit", "api"),
        ("Invalid API key · Please run /login", "auth"),
        ("unexpected status 401 Unauthorized", "auth"),
        ("Session ID x is already in use.", "session-in-use"),
        ("No conversation found with session ID: x", "no-session"),
        ("fatal: unable to open 4013 files", "error"),
    ],
)
def test_the_kind_of_an_error_text(said, kind):
    assert kind_of(said) == kind
    assert is_usage_limit(said) == (kind == "limit")
