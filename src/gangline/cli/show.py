"""Text for people: status, plan, list, graph. Everything untrusted is made harmless here."""

from gangline.cli.standing import (
    budget_words,
    condition_words,
    open_questions,
    usage_words,
)
from gangline.cli.table import duration, seconds_between, table, terminal_width
from gangline.core.text import one_line
from gangline.hosts.processes import epoch_seconds

OPEN = ("pending", "blocked", "dispatched")
_LABEL_LENGTH = 60
_NAMED_MAX = 3
_RETRIES_NAMED_MAX = 20
# Written as Mermaid's character references; `#` and `;` are what those are made of.
_MERMAID = {ord(mark): f"#{ord(mark)};" for mark in '#;"&<>\\`[]{}()|'}
_MERMAID_STYLES = {
    "completed": "fill:#dfd,stroke:#393",
    "dispatched": "fill:#def,stroke:#369",
    "failed": "fill:#fdd,stroke:#933",
}

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def status_text(view: "dict[str, Any]", *, now: str) -> str:
    """`gangline status AREA`."""
    rows = [_status_row(issue, now) for issue in view["issues"]]
    heads = ("issue", "status", "try", "time", "usage", "pane", "title", "note")
    width = terminal_width()
    shown = table(heads, rows, flexible=(6, 7), optional=(4, 5, 2, 6, 3), width=width)
    lines = [_headline(view), shown]
    questions = open_questions(view)
    after = [*_budget_line(view), *_stop_line(view)]
    return "\n".join([*lines, *after, *(["", *questions] if questions else [])])


def _counts(view: "dict[str, Any]") -> str:
    return ", ".join(f"{n} {status}" for status, n in view["counts"].items() if n)


def _stop_line(view: "dict[str, Any]") -> list[str]:
    """What the last orchestrator could not go on from; nothing where it ended as it should."""
    stopped = view["orchestrator"]["stopped"] or ""
    is_error = stopped.startswith("error: ")
    return [f"the orchestrator stopped: {one_line(stopped, 500)}"] if is_error else []


def _headline(view: "dict[str, Any]") -> str:
    alive = view["orchestrator"]["alive"]
    if alive:
        pane = view["orchestrator"]["pane"]
        who = f"orchestrator: process {view['orchestrator']['pid']}" + (f", {pane}" if pane else "")
    elif any(issue["status"] in OPEN for issue in view["issues"]):
        who = f"no orchestrator; go on with: gangline run {view['area']}"
    else:
        who = "the batch is over"
    marks = [word for word in ("paused", "draining", "stopping") if view[word]]
    return f"{view['area']}  {_counts(view)}  ({'; '.join([who, *marks])})"


def _status_row(issue: "dict[str, Any]", now: str) -> list[str]:
    attempts = issue["attempts"]
    last = attempts[-1] if attempts else None
    running = issue["status"] == "dispatched"
    stands = issue["condition"] if issue["condition"] != "working" else None
    time = ""
    if last:
        end = last["endedAt"] or (now if running else last["startedAt"])
        time = duration(seconds_between(last["startedAt"], end))
    note = issue["reason"] or ""
    if issue["held"]:
        note = "held"
    elif issue["wish"]:
        note = f"{issue['wish']} asked for"
    elif stands:
        note = _stands(issue, now)
    elif issue.get("seen"):
        note = issue["seen"]
    elif issue["status"] == "blocked":
        note = "after " + ", ".join(f"#{key}" for key in issue["dependsOn"])
    if issue["messages"] and issue["status"] in OPEN:
        count = issue["messages"]
        note += ("; " if note else "") + f"{count} message{'s' * (count > 1)} of yours to go"
    return [
        f"#{issue['id']}",
        stands or issue["status"],
        str(len(attempts)) if attempts else "",
        time,
        usage_words(issue["usage"]),
        (last["pane"] or "") if last and running else "",
        one_line(issue["title"], 200),
        note,
    ]


def _stands(issue: "dict[str, Any]", now: str) -> str:
    """How an issue stands that does not work; its condition itself is in another column."""
    condition, asked = issue["condition"], issue["asked"]
    words = condition_words(
        condition, issue["question"], issue["until"], epoch_seconds(now), asked=asked
    )
    words = words if asked else words.removeprefix(condition).removeprefix(":").strip()
    return "; ".join(part for part in (words, issue.get("seen")) if part)


def _budget_line(view: "dict[str, Any]") -> list[str]:
    """That the batch's budget is used up, if it is; what still runs does not count yet."""
    if view["budget"] is None:
        return []
    attempts = [attempt for issue in view["issues"] for attempt in issue["attempts"]]
    used = [a["usage"] for a in attempts if a["usage"] and a["outcome"] is not None]
    words = budget_words(used, view["budget"])
    return [words] if words else []


def summary_text(view: "dict[str, Any]", *, now: str) -> str:
    """What the end of a run shows: each issue, how it went, how long all its attempts took."""
    rows = []
    for issue in view["issues"]:
        attempts = issue["attempts"]
        spent = sum(seconds_between(a["startedAt"], a["endedAt"] or now) for a in attempts)
        rows.append(
            [
                f"#{issue['id']}",
                issue["status"],
                str(len(attempts)) if attempts else "",
                duration(spent) if attempts else "",
                usage_words(issue["usage"]),
                (attempts[-1]["branch"] or "") if attempts else "",
                issue["reason"] or "",
                one_line(issue["title"], 200),
            ]
        )
    heads = ("issue", "status", "attempts", "time", "usage", "branch", "why", "title")
    took = duration(seconds_between(view["createdAt"], view["updatedAt"]))
    shown = table(heads, rows, flexible=(6, 7), optional=(4, 7, 5, 2, 3), width=terminal_width())
    used = usage_words(view["usage"])
    return (
        f"Summary of {view['area']}, batch {view['batchId']}: {_counts(view)}, in {took}"
        + (f"; used: {used}" if used else "")
        + f"\n{shown}"
    )


def advice_text(view: "dict[str, Any]", branches: "Sequence[str]", *, archived: bool) -> str:
    """The commands that get on from here; "" where nothing is to be done.

    Args:
        view: Of a batch without an orchestrator.
        branches: With work to be merged.
        archived: The batch is put away: its issues cannot be tried again.
    """
    lines = [] if archived else [*_after_failures(view), *_after_decisions(view)]
    if branches:
        shown = " && ".join(f"git merge {branch}" for branch in branches[:_NAMED_MAX])
        more = len(branches) - _NAMED_MAX
        rest = f"; then {more} more of: git branch --no-merged" if more > 0 else ""
        lines.append(f"merge what is done: {shown}{rest}")
    return "\n".join(["", "Next:", *(f"  {line}" for line in lines)]) if lines else ""


def _after_failures(view: "dict[str, Any]") -> list[str]:
    """Where to read why, and how to try again."""
    area = view["area"]
    failed = [issue for issue in view["issues"] if issue["status"] == "failed"]
    lines = []
    for issue in failed[:_NAMED_MAX]:
        last = issue["attempts"][-1] if issue["attempts"] else None
        if last is None:
            why = f": {one_line(issue['reason'], 200)}" if issue["reason"] else ""
            lines.append(f"#{issue['id']} failed and was never run{why}")
            continue
        where = f"#{issue['id']} failed: gangline logs {area} {issue['id']}"
        # The settings keep such a pane; a person's own has gone on to something else.
        if last["pane"] and last["outcome"] == "failed" and not last["ownPane"]:
            where += f" (or pane {last['pane']}: gangline attach {area} {issue['id']})"
        lines.append(where)
    if len(failed) > _NAMED_MAX:
        lines.append(f"and of {len(failed) - _NAMED_MAX} more: gangline status {area}")
    if not failed:
        return []
    keys = [str(issue["id"]) for issue in failed]
    brings = (
        " (and what was skipped because of it)" if any(map(_was_left_out, view["issues"])) else ""
    )
    if len(keys) == 1:
        again = f"gangline retry {area} {keys[0]} && gangline run {area}"
    elif len(keys) <= _RETRIES_NAMED_MAX:
        names = " ".join(keys)
        again = f"for i in {names}; do gangline retry {area} $i; done; gangline run {area}"
    else:
        again = f"gangline retry {area} ISSUE, for each; then gangline run {area}"
    return [*lines, f"try again{brings}: {again}"]


def _was_left_out(issue: "dict[str, Any]") -> bool:
    return issue["status"] == "skipped" and issue["because"] is not None


def _after_decisions(view: "dict[str, Any]") -> list[str]:
    """What people put aside, and what keeps open issues from being run."""
    area, lines = view["area"], []
    aside = [i for i in view["issues"] if i["status"] in ("skipped", "cancelled")]
    aside = [str(i["id"]) for i in aside if not _was_left_out(i)]
    if aside:
        names = ", ".join(f"#{key}" for key in aside[:_NAMED_MAX])
        more = f" and {len(aside) - _NAMED_MAX} more" if len(aside) > _NAMED_MAX else ""
        again = f"gangline retry {area} {aside[0]} && gangline run {area}"
        lines.append(f"{names}{more} put aside; to do one after all: {again}")
    if any(i["status"] in OPEN for i in view["issues"]):
        lines += _budget_line(view)
    if view["paused"]:
        lines.append(f"the batch is paused; dispatch again: gangline resume {area}")
    held = [str(i["id"]) for i in view["issues"] if i["held"] and i["status"] in OPEN]
    if held:
        names = ", ".join(f"#{key}" for key in held[:_NAMED_MAX])
        more = f" and {len(held) - _NAMED_MAX} more" if len(held) > _NAMED_MAX else ""
        lines.append(f"{names}{more} held; let one go: gangline release {area} {held[0]}")
    return lines


def plan_text(area: str, plan: "Any", policy: "Any") -> str:
    """`gangline plan AREA`."""
    width = terminal_width()
    heads = ("wave", "issue", "agent", "after", "title")
    titles = {issue.key: issue for issue in plan.issues}
    rows = []
    for number, wave in enumerate(plan.waves):
        for key in wave:
            issue = titles[key]
            needs = ", ".join(dict.fromkeys(f"#{edge.id}" for edge in issue.depends_on))
            agent = issue.run[0] if issue.run else issue.agent or plan.agent or ""
            rows.append([str(number + 1), f"#{key}", agent, needs, one_line(issue.title, 200)])
    longest = " -> ".join(f"#{key}" for key in plan.critical_path)
    count, limit = len(plan.issues), policy.max_concurrent
    found = f"{count} issues from {one_line(plan.description)}"
    lines = [
        f"{area}: {found}, {len(plan.waves)} waves, at most {limit} at once",
        table(heads, rows, flexible=(3, 4), optional=(2, 0), width=width),
        f"Critical path, {len(plan.critical_path)} issues: {longest}",
        *(f"warning: {one_line(warning)}" for warning in plan.warnings),
    ]
    return "\n".join(lines)


def list_text(views: "list[dict[str, Any]]") -> str:
    """`gangline list`; a view may be `{area, error}` instead."""
    rows = []
    for view in views:
        if "error" in view:
            rows.append([view["area"], "", view["error"], ""])
            continue
        alive = "running" if view["orchestrator"]["alive"] else "no orchestrator"
        rows.append([view["area"], alive, _counts(view), view["batchId"]])
    heads = ("area", "orchestrator", "issues", "batch")
    return table(heads, rows, flexible=(2,), optional=(3,), width=terminal_width())


def graph_text(view: "dict[str, Any]", form: str) -> str:
    """`gangline graph`: text, mermaid or dot."""
    issues = {str(issue["id"]): issue for issue in view["issues"]}
    if form == "mermaid":
        return _mermaid(issues)
    if form == "dot":
        return _dot(issues)
    rows = []
    for key, issue in issues.items():
        needs = ", ".join(f"#{d}" for d in issue["dependsOn"])
        rows.append([f"#{key}", issue["status"], needs, one_line(issue["title"], 200)])
    heads = ("issue", "status", "after", "title")
    return table(heads, rows, flexible=(2, 3), width=terminal_width())


def _label(key: str, title: str) -> str:
    """Number and title; an issue without a title has its id for one."""
    return f"#{key}" if title in ("", key) else f"#{key} {one_line(title, _LABEL_LENGTH)}"


def _mermaid(issues: "dict[str, dict[str, Any]]") -> str:
    """Nodes have made-up names: `end`, `o` or a dot in an id would be read as syntax."""
    names = {key: f"i{number}" for number, key in enumerate(issues)}
    lines = ["graph TD"]
    for key, issue in issues.items():
        label = _label(key, issue["title"])
        lines.append(f'  {names[key]}["{label.translate(_MERMAID)}"]:::{issue["status"]}')
    edges = [(str(d), key) for key, issue in issues.items() for d in issue["dependsOn"]]
    lines += [f"  {names[needed]} --> {names[key]}" for needed, key in edges]
    statuses = {issue["status"] for issue in issues.values()}
    lines += [f"  classDef {s} {style}" for s, style in _MERMAID_STYLES.items() if s in statuses]
    return "\n".join(lines)


def _dot(issues: "dict[str, dict[str, Any]]") -> str:
    lines = ["digraph gangline {", "  rankdir=LR;", "  node [shape=box];"]
    for key, issue in issues.items():
        label = _label(key, issue["title"])
        # Graphviz reads HTML entities also in quoted labels.
        label = f"{label}\n{issue['status']}".replace("&", "&amp;")
        lines.append(f"  {_dot_text(key)} [label={_dot_text(label)}];")
    for key, issue in issues.items():
        lines += [f"  {_dot_text(str(other))} -> {_dot_text(key)};" for other in issue["dependsOn"]]
    return "\n".join([*lines, "}"])


def _dot_text(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'
