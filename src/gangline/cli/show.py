"""Text for people: status, plan, summary, graph. Everything untrusted is made harmless here."""

from gangline.cli.table import duration, seconds_between, table, terminal_width
from gangline.core.text import one_line

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from typing import Any


def status_text(view: "dict[str, Any]", *, now: str) -> str:
    """`gangline status AREA`."""
    width = terminal_width()
    rows = [_status_row(issue, now) for issue in view["issues"]]
    heads = ("issue", "status", "try", "time", "pane", "title", "note")
    parts = [_headline(view), table(heads, rows, flexible=5, width=width)]
    return "\n".join(parts)


def _headline(view: "dict[str, Any]") -> str:
    counts = ", ".join(f"{n} {status}" for status, n in view["counts"].items() if n)
    alive = view["orchestrator"]["alive"]
    if alive:
        pane = view["orchestrator"]["pane"]
        who = f"orchestrator: process {view['orchestrator']['pid']}" + (f", {pane}" if pane else "")
    elif any(issue["status"] in ("pending", "blocked", "dispatched") for issue in view["issues"]):
        who = f"no orchestrator; go on with: gangline run {view['area']}"
    else:
        who = "the batch is over"
    marks = [word for word in ("paused", "draining", "stopping") if view[word]]
    return f"{view['area']}  {counts}  ({'; '.join([who, *marks])})"


def _status_row(issue: "dict[str, Any]", now: str) -> list[str]:
    attempts = issue["attempts"]
    last = attempts[-1] if attempts else None
    running = issue["status"] == "dispatched"
    time = ""
    if last:
        end = last["endedAt"] or (now if running else last["startedAt"])
        time = duration(seconds_between(last["startedAt"], end))
    note = issue["reason"] or ""
    if issue["held"]:
        note = "held"
    elif issue["wish"]:
        note = f"{issue['wish']} asked for"
    elif issue.get("seen"):
        note = issue["seen"]
    elif issue["status"] == "blocked":
        note = "after " + ", ".join(f"#{key}" for key in issue["dependsOn"])
    return [
        f"#{issue['id']}",
        issue["status"],
        str(len(attempts)) if attempts else "",
        time,
        (last["pane"] or "") if last and running else "",
        one_line(issue["title"], 200),
        note,
    ]


def summary_text(view: "dict[str, Any]") -> str:
    """What the end of a batch shows: each issue, and what a person should do next."""
    width = terminal_width()
    rows = []
    for issue in view["issues"]:
        attempts = issue["attempts"]
        last = attempts[-1] if attempts else None
        spent = sum(seconds_between(a["startedAt"], a["endedAt"]) for a in attempts if a["endedAt"])
        rows.append(
            [
                f"#{issue['id']}",
                issue["status"],
                str(len(attempts)),
                duration(spent) if attempts else "",
                (last["branch"] or "") if last else "",
                one_line(issue["title"], 200),
                issue["reason"] or "",
            ]
        )
    heads = ("issue", "status", "attempts", "time", "branch", "title", "why")
    counts = ", ".join(f"{n} {status}" for status, n in view["counts"].items() if n)
    took = duration(seconds_between(view["createdAt"], view["updatedAt"]))
    parts = [
        f"Summary of {view['area']}, batch {view['batchId']}: {counts}, in {took}",
        table(heads, rows, flexible=5, width=width),
    ]
    advice = _advice(view)
    return "\n".join([*parts, *(["", "Next:", *advice] if advice else [])])


def _advice(view: "dict[str, Any]") -> list[str]:
    """The commands that get on from here."""
    area = view["area"]
    lines = []
    for issue in view["issues"]:
        if issue["status"] != "failed":
            continue
        last = issue["attempts"][-1] if issue["attempts"] else None
        where = f"; pane {last['pane']}" if last and last["pane"] and last["exitCode"] else ""
        lines.append(
            f"  #{issue['id']}: read gangline logs {area} {issue['id']}{where}; "
            f"then gangline retry {area} {issue['id']} && gangline run {area}"
        )
    branches = [
        i["attempts"][-1]["branch"]
        for i in view["issues"]
        if i["status"] == "completed" and i["attempts"] and i["attempts"][-1]["branch"]
    ]
    if branches:
        shown = " ".join(branches[:3]) + (" …" if len(branches) > 3 else "")
        lines.append(f"  merge the completed branches: git merge {shown}")
    return lines


def plan_text(area: str, plan: "Any", policy: "Any") -> str:
    """`gangline plan AREA`."""
    width = terminal_width()
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
        table(("wave", "issue", "agent", "after", "title"), rows, flexible=4, width=width),
        f"Critical path, {len(plan.critical_path)} issues: {longest}",
        *(f"warning: {one_line(warning)}" for warning in plan.warnings),
    ]
    return "\n".join(lines)


def list_text(views: "list[dict[str, Any]]") -> str:
    """`gangline list`."""
    rows = []
    for view in views:
        counts = ", ".join(f"{n} {status}" for status, n in view["counts"].items() if n)
        alive = "running" if view["orchestrator"]["alive"] else "no orchestrator"
        rows.append([view["area"], alive, counts, view["batchId"]])
    return table(
        ("area", "orchestrator", "issues", "batch"), rows, flexible=2, width=terminal_width()
    )


def graph_text(view: "dict[str, Any]", form: str) -> str:
    """`gangline graph`: text, mermaid or dot."""
    issues = {str(issue["id"]): issue for issue in view["issues"]}
    if form == "mermaid":
        names = {key: f"i{number}" for number, key in enumerate(issues)}
        lines = ["graph TD"]
        lines += [f'  {names[k]}["{_mermaid(k, i)}"]:::{i["status"]}' for k, i in issues.items()]
        lines += [f"  {names[d]} --> {names[k]}" for k, i in issues.items() for d in i["dependsOn"]]
        return "\n".join(lines)
    if form == "dot":
        lines = ["digraph gangline {", "  rankdir=LR;"]
        for key, issue in issues.items():
            label = f"#{key} {one_line(issue['title'], 60)}\n{issue['status']}"
            lines.append(f"  {_dot(key)} [label={_dot(label)}];")
        lines += [f"  {_dot(d)} -> {_dot(k)};" for k, i in issues.items() for d in i["dependsOn"]]
        return "\n".join([*lines, "}"])
    rows = []
    for key, issue in issues.items():
        needs = ", ".join(f"#{d}" for d in issue["dependsOn"])
        rows.append([f"#{key}", issue["status"], needs, one_line(issue["title"], 200)])
    return table(("issue", "status", "after", "title"), rows, flexible=3, width=terminal_width())


def _mermaid(key: str, issue: "dict[str, Any]") -> str:
    title = one_line(issue["title"], 60)
    for mark, entity in (("&", "#amp;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        title = title.replace(mark, entity)
    return f"#35;{key} {title}"


def _dot(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'
