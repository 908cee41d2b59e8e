"""Every code block of orchestrator-recovery.md is run, in order, as it stands there.

Real git, real tmux, a real batch begun with the document's own loop, a real crash: kill -9 of the
orchestrator's shell and of an agent with its pane. What the document says must then be so; and a
run of a document in which one word that matters is another must not pass the same claims, which is
what shows that these claims look.

Done to the text: `{area}` is filled in, and erratum 1 is corrected. `sleep` is a shell function of
the stage (team.py), so the loop waits for agents instead of 30 seconds. In zsh the text runs as
under `emulate sh`: zsh of itself does not split the document's unquoted `$DISPATCHED`.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from document import ERRATUM_1, block, parts, replaced, runnable
from team import AREA, CYCLE, ORCH_PANE, SHELLS, Script, Section, Team, init

ENTRY, READ, PANE = "Entry 1", "Read State 1", "Read State 2"
RECONCILE, POLL, STALE = "Reconcile Dispatched Issues 1", "Resume Poll Cycle 1", "Stale State 1"
DAG, SHAPE, RETRY = "DAG Integrity 1", "Auto-Retry Policy 1", "Auto-Retry Policy 2"
ORDER = [ENTRY, READ, PANE, RECONCILE, POLL, STALE, DAG, SHAPE, RETRY]

# While nobody watches: 1 completes, 3 fails, 4 goes on, 5 is killed with its pane.
EDGES: dict[int, list[int]] = {1: [], 3: [], 4: [], 5: [], 6: [1], 7: [3], 8: [4, 5]}
SECOND: dict[int, list[int]] = {9: [], 10: [9]}
# What Gangline tells of an event, or says itself: the shells say nothing of their own.
SAID = re.compile(r"(\d\d:\d\d:\d\d |gangline: |note: )")
SHOW = 'echo "$AGENT"; echo "$ORCH_PANE"'

Words = tuple[str, str, str]
Claims = list[tuple[str, bool]]


def text_of(name: str, mutation: Words | None) -> str:
    """The block, runnable; with the words of the mutation replaced if it is that block's."""
    text = runnable(name, AREA)
    if mutation and mutation[0] == name:
        assert mutation[1] in text, f"{mutation[1]!r} is not in {name}"
        return text.replace(mutation[1], mutation[2], 1)
    return text


def broken(claims: Claims) -> list[str]:
    """The claims that do not hold."""
    return [claim for claim, holds in claims if not holds]


def quiet(section: Section) -> bool:
    """Whether no shell and no tool complained."""
    return all(SAID.match(line) for line in section.err.splitlines())


# -- the stages ----------------------------------------------------------------------------


def crash(team: Team, orchestrator: Script | None) -> str:
    """Everything of the crash, and what goes on without an orchestrator; the pane of 5."""
    team.wait_for(lambda: len(team.starts()) == 4, "four agents have started")
    team.wait_for(lambda: len(panes_of(team)) == 4, "the panes of all four are recorded")
    if orchestrator:
        orchestrator.kill()
    pane = team.kill_agent(5)
    team.let(1)
    team.let(3, code=3)
    team.wait_for_exit(1, 3)
    for freed in (panes_of(team)["1"], panes_of(team)["3"]):
        team.wait_for_idle(freed)
    team.calls_path.write_text("")
    return pane


def panes_of(team: Team) -> dict[str, str]:
    path = team.area() / "batch.state.json"
    entries = json.loads(path.read_text())["dispatched"] if path.exists() else {}
    return {issue: entry["pane"] for issue, entry in entries.items() if entry["pane"]}


def begun_by_loop(shell: str) -> list[str]:
    """An orchestrator like the one that crashed: it begins the batch and enters the loop."""
    begin = f"source scripts/orchestrate-helpers.sh\n{ORCH_PANE}AGENT=worker\n{init(EDGES)}"
    return [begin, runnable(POLL, AREA)]


# -- the claims ----------------------------------------------------------------------------


def claims_of_reading(script: Script, names: list[str]) -> Claims:
    """Entry and step 1: found, read, and the pane is the new one."""
    entry, read, pane = (script.section(names.index(n) + 1) for n in (ENTRY, READ, PANE))
    agent = read.out.splitlines()[0] if read.out else ""
    own = read.out.splitlines()[1] if read.out.count("\n") > 1 else ""
    before, after = (section.state or {} for section in (read, pane))
    unchanged = {*before, *after} - {"orchestratorPane", "seq", "updatedAt", "digest"}
    return [
        (
            "ls names the state file",
            entry.out == f".workspace/orchestrate/{AREA}/batch.state.json\n",
        ),
        ("every command of step 1 succeeds", entry.code == read.code == pane.code == 0),
        ("nothing complains", quiet(read) and quiet(pane)),
        ("AGENT is the batch's", agent == "worker"),
        ("ORCH_PANE is the pane it runs in", own == script.pane),
        ("the old pane was another", before.get("orchestratorPane") != script.pane),
        ("the new pane is recorded", after.get("orchestratorPane") == script.pane),
        ("nothing else is changed", all(before.get(k) == after.get(k) for k in unchanged)),
    ]


def claims_of_reconciling(team: Team, script: Script, number: int, dead: str) -> Claims:
    """Step 2: done and failed are recorded, the dead one is dispatched again, the rest left."""
    found = script.section(number)
    state = found.state or {}
    status, entries = state.get("status", {}), state.get("dispatched", {})
    again = entries.get("5", {})
    free = sorted({*team.panes} - {dead, entries.get("4", {}).get("pane")})
    new = again.get("pane")
    asked = [words[:2] for words in team.calls("check-completion")]
    return [
        ("nothing complains", quiet(found)),
        (
            "one pane is said to be dead",
            found.out == f"[recovery] Pane {dead} for #5 is dead; re-dispatching\n",
        ),
        (
            "the dispatched issues are asked about, each once",
            asked == [["check-completion", key] for key in ("1", "3", "4", "5")],
        ),
        (
            "what ended is recorded, and what waited for it is free",
            [status.get(key) for key in ("1", "3", "6", "7", "8")]
            == ["completed", "failed", "pending", "pending", "blocked"],
        ),
        (
            "both are recorded by the block",
            team.calls("status-set")
            == [["status-set", AREA, "1", "completed"], ["status-set", AREA, "3", "failed"]],
        ),
        ("a completed one unblocks", team.calls("unblock") == [["unblock", AREA, "1"]]),
        (
            "the panes of those that go on are looked at",
            [words[1] for words in team.calls("pane-alive")]
            == [entries.get("4", {}).get("pane"), dead],
        ),
        ("the living one goes on", entries.get("4", {}).get("attempt") == 0),
        ("the dead one is dispatched again", again.get("attempt") == 1 and new in free),
        ("once", team.calls("dispatch") == [["dispatch", "5", new or "", AREA, "worker"]]),
        ("and recorded", team.calls("record-dispatch") == [["record-dispatch", AREA, "5", new]]),
        ("which is charged", again.get("retryCount") == 1),
        ("nothing else runs", set(entries) == {"4", "5"}),
    ]


def shape_of(state: dict[str, Any] | None, mutation: Words | None = None) -> bool:
    """Whether `dispatched` looks as the document's JSON shows it, `...` being whatever."""
    shown = json.loads("{" + replaced(text_of(SHAPE, mutation), ", ...", "") + "}")
    ((part, ((issue, wanted),)),) = [(key, value.items()) for key, value in shown.items()]
    entry = (state or {}).get(part, {}).get(issue, {})
    pane = re.fullmatch("%[0-9]+", str(entry.get("pane"))) and re.fullmatch(
        "%[0-9]+", str(wanted.pop("pane", ""))
    )
    return bool(pane) and all(entry.get(key) == value for key, value in wanted.items())


def claims_of_the_end(
    team: Team, script: Script, names: list[str], wanted: dict[int, str], dag: dict[int, list[int]]
) -> Claims:
    """Steps 3 and 4: all is done, in order, told, put away."""
    poll, stale = (script.section(names.index(name) + 1) for name in (POLL, STALE))
    status = {str(issue): word for issue, word in wanted.items()}
    archived = team.archived()
    lines = {line.split()[0]: line for line in stale.out.splitlines() if line.startswith("#")}
    told = all(word in lines.get(f"#{issue}", "") for issue, word in wanted.items())
    last = stale.out.splitlines()[-1:] == ["[recovery] Stale state cleaned up."]
    ended = {line.issue for line in team.ledger() if line.what == "end"}
    return [
        ("the loop ends by itself", script.section(len(names)).code != -1 and poll.code == 0),
        ("nothing complains", quiet(poll) and quiet(stale)),
        ("the loop says nothing of its own", poll.out == ""),
        ("each issue is completed or failed", (poll.state or {}).get("status") == status),
        ("every agent ran to its end", ended == set(status)),
        ("in the order of their dependencies", ended == set(status) and not team.out_of_order(dag)),
        ("the summary is printed first", stale.out.startswith(f"Summary of {AREA}, batch ")),
        ("with every issue in it", told),
        ("and then that it is cleaned up", last and stale.code == 0),
        ("the area's folder is gone", stale.code == 0 and not stale.area),
        ("its record is in the archive", [s["status"] for s in archived] == [status]),
    ]


def claims_of_policy(script: Script, dag: int, retry: int, issue: int) -> Claims:
    """DAG Integrity and the increment of Auto-Retry."""
    checked, raised = script.section(dag), script.section(retry)
    before, after = checked.state or {}, raised.state or {}
    key = str(issue)
    entries = [state.get("dispatched", {}).get(key, {}) for state in (before, after)]
    counts = [entry.pop("retryCount", None) for entry in entries]
    apart = {"seq", "updatedAt", "digest", "detail"}
    same = all(before.get(k) == after.get(k) for k in {*before, *after} - apart)
    return [
        ("a graph without a cycle is said to be fine", (checked.code, checked.out) == (0, "")),
        ("nothing complains", quiet(checked) and quiet(raised) and raised.code == 0),
        ("retryCount is one more", counts == [0, 1]),
        ("and nothing else is changed", same and after != {}),
    ]


# -- the whole document --------------------------------------------------------------------


def test_blocks_that_are_run_are_all_that_the_document_has_in_its_order():
    assert [each.name for each in parts()[0]] == ORDER
    assert [each.language for each in parts()[0]] == ["bash"] * 7 + ["json", "bash"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_block_in_order_after_a_real_crash_ends_as_the_document_says(
    make_team: Callable[..., Team], shell: str
):
    team = make_team(panes=4, workspace="worktree", batch='from = "issues"\n', installed=True)
    for issue in (*EDGES, *SECOND):
        team.write(f"issues/{issue}.md", f'# Issue {issue}, "quoted\\n" \u00e9\n\nWork on it.\n')
    team.commit()
    orchestrator = team.script(begun_by_loop(shell), name="begin", shell=shell)
    dead = crash(team, orchestrator)

    names = ORDER[:6]
    between = f"{init(SECOND)}\n{CYCLE}\nISSUE=9"
    blocks = [runnable(name, AREA) for name in names]
    blocks[1] += f"\n{SHOW}"
    script = team.script(
        [*blocks, between, *(runnable(name, AREA) for name in (DAG, RETRY))],
        name="resume",
        shell=shell,
    )
    script.wait_after(4)
    team.let(4, 5, 6, 7, 8)
    assert script.wait() == 0, script.text()

    wanted = {issue: "failed" if issue == 3 else "completed" for issue in EDGES}
    assert broken(claims_of_reading(script, names)) == [], script.text()
    assert broken(claims_of_reconciling(team, script, 4, dead)) == [], script.text()
    assert shape_of(script.section(4).state)
    assert broken(claims_of_the_end(team, script, names, wanted, EDGES)) == [], script.text()
    assert broken(claims_of_policy(script, 8, 9, 9)) == [], script.text()
    once = dict.fromkeys(map(str, EDGES), 1)
    assert {**team.started(), "9": 0} == {**once, "5": 2, "9": 0}
    assert [line.before for line in team.starts()] == [0] * 9
    assert 'Issue 7, "quoted\\n" \u00e9' in script.section(6).out


# -- one word changed ----------------------------------------------------------------------

SHORT: dict[int, list[int]] = {1: [], 2: [], 3: [1, 2]}
READING: list[Words] = [
    (ENTRY, "batch.state.json", "batch.states.json"),
    (READ, "orchestrate-helpers", "orchestrator-helpers"),
    (READ, "orch_state_read", "orch_state_path"),
    (READ, ".agent", ".agnt"),
    (READ, "pane_id", "pane_index"),
    (PANE, "orch_state_update", "orch_state_read"),
    (PANE, ".orchestratorPane", ".orchestratorPain"),
    (PANE, "$ORCH_PANE", "%0"),
]
RECONCILING: list[Words] = [
    (RECONCILE, ".dispatched | keys[]", ".status | keys[]"),
    (RECONCILE, "orch_check_completion", "orch_pane_alive"),
    (RECONCILE, '"completed" ] ||', '"complete" ] ||'),
    (RECONCILE, '"failed" ]', '"failure" ]'),
    (RECONCILE, '"completed" ] &&', '"complete" ] &&'),
    (RECONCILE, "orch_status_set", "orch_state_read"),
    (RECONCILE, '"$ISSUE" "$RESULT"', '"$ISSUE" "completed"'),
    (RECONCILE, "orch_unblock", "orch_unlock"),
    (RECONCILE, '].pane"', '].pain"'),
    (RECONCILE, "! orch_pane_alive", "orch_pane_alive"),
    (RECONCILE, "is dead", "is gone"),
    (RECONCILE, "orch_find_idle_panes", "orch_state_path"),
    (RECONCILE, "$IDLE", "$PANE"),
    (RECONCILE, "orch_dispatch", "orch_verify_startup"),
    (RECONCILE, '"$AGENT" &&', '"nobody" &&'),
    (RECONCILE, "orch_record_dispatch", "true"),
    (RECONCILE, "break", "true"),
]
ENDING: list[Words] = [
    (POLL, "orch_poll_cycle", "orch_state_path"),
    (POLL, ".issues", ".issue"),
    (POLL, ". as $s |", ""),
    (POLL, "map(tostring)", "map(tonumber)"),
    (POLL, '"$AGENT"', '"nobody"'),
    (POLL, '== "pending"', '== "waiting"'),
    (POLL, '== "dispatched"', '== "sent"'),
    (POLL, ' or . == "blocked"', ""),
    (POLL, "-eq 0", "-ne 0"),
    (POLL, "break", "true"),
    (STALE, "orch_print_summary", "orch_state_path"),
    (STALE, "rm -rf", "rm -r"),
    (STALE, "cleaned up", "cleaned"),
]
POLICY: list[Words] = [
    (DAG, "'.issues'", "'.dag'"),
    (DAG, "'.dag'", "'.status'"),
    (DAG, "--check-cycles", "--check-cycle"),
    (DAG, '"$DAG_JSON"', '"$ISSUES_JSON"'),
    (RETRY, "orch_state_update", "orch_state_read"),
    (RETRY, ".dispatched", ".dispatch"),
    (RETRY, "retryCount =", "retriesCount ="),
    (RETRY, "$ISSUE", "7"),
    (RETRY, "+ 1", "+ 0"),
]


def mutations(table: list[Words]) -> Any:
    """As it stands, and every row of the table."""
    ids = ["as it stands", *(f"{name}: {old} -> {new or 'nothing'}" for name, old, new in table)]
    return pytest.mark.parametrize("mutation", [None, *table], ids=ids)


def judge(found: list[str], mutation: Words | None, script: Script) -> None:
    """What stands in the document fulfils all claims; anything else breaks one."""
    assert bool(found) == bool(mutation), f"{found}\n{script.text()}"


@mutations(READING)
def test_entry_and_reading_with_one_word_changed_fail(team: Team, mutation: Words | None):
    team.shell(init(SHORT))
    blocks = [text_of(name, mutation) for name in ORDER[:3]]
    blocks[1] += f"\n{SHOW}"
    script = team.script(blocks, name="resume")
    script.wait()
    judge(broken(claims_of_reading(script, ORDER[:3])), mutation, script)


@mutations(RECONCILING)
def test_reconciling_with_one_word_changed_fails(
    make_team: Callable[..., Team], mutation: Words | None
):
    team = make_team(panes=4)
    team.shell(f"{init(EDGES)}\n{CYCLE}")
    dead = crash(team, None)
    script = team.script([text_of(name, mutation) for name in (READ, RECONCILE)], name="resume")
    script.wait()
    judge(broken(claims_of_reconciling(team, script, 2, dead)), mutation, script)
    if not mutation:
        state = script.section(2).state
        assert shape_of(state)
        for old, new in (("dispatched", "sent"), ('"5"', '"6"'), ("%3", "3"), ("pane", "pain")):
            assert not shape_of(state, (SHAPE, old, new)), new
        for old, new in (("retryCount", "retries"), (": 1", ": 2")):
            assert not shape_of(state, (SHAPE, old, new)), new


@mutations(ENDING)
def test_polling_and_stale_state_with_one_word_changed_fail(
    make_team: Callable[..., Team], mutation: Words | None
):
    team = make_team(panes=1)  # so that one is dispatched, one pending and one blocked
    team.let(1, 3)
    team.let(2, code=3)
    team.shell(init(SHORT))
    names = [READ, POLL, STALE]
    script = team.script([text_of(name, mutation) for name in names], name="resume")
    script.wait()
    wanted = {1: "completed", 2: "failed", 3: "completed"}
    found = broken(claims_of_the_end(team, script, names, wanted, SHORT))
    judge(found, mutation, script)


@mutations(POLICY)
def test_integrity_and_retry_with_one_word_changed_fail(team: Team, mutation: Words | None):
    team.begin_by_shell(SECOND)
    names = [READ, DAG, RETRY]
    script = team.script(
        [text_of(name, mutation) for name in names], name="resume", before="ISSUE=9"
    )
    script.wait()
    judge(broken(claims_of_policy(script, 2, 3, 9)), mutation, script)


def test_loop_without_the_correction_of_erratum_1_ends_with_work_still_open(team: Team):
    team.shell(init(SHORT))
    script = team.script([runnable(READ, AREA), block(POLL)], name="resume")
    assert script.wait() == 0
    poll = script.section(2)
    assert 'Cannot index array with string "status"' in poll.err
    assert "blocked" in (poll.state or {})["status"].values()
    assert len(team.calls("poll-cycle")) == 1
    assert all(old in block(POLL) for old, _ in ERRATUM_1)


def test_blocks_of_reading_run_under_strict_shell_options(team: Team):
    team.shell(init(SHORT))
    names = ORDER[:3]
    blocks = [runnable(name, AREA) for name in names]
    blocks[1] += f"\n{SHOW}"
    script = team.script(blocks, name="resume", before="set -euo pipefail")
    assert script.wait() == 0, script.text()
    assert broken(claims_of_reading(script, names)) == [], script.text()
