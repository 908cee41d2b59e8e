"""Text for people: status, plan, list, graph. Everything untrusted is made harmless here."""

from gangline.cli.table import duration, seconds_between, table, terminal_width
from gangline.core.text import one_line

OPEN = ("pending", "blocked", "dispatched")
_LABEL_LENGTH = 60
# Written as Mermaid's character references; `#` and `;` are what those are made of.
_MERMAID = {ord(mark): f"#{ord(mark)};" for mark in "#;\"&<>\\`[]{}()|"}
_MERMAID_STYLES = {
    "completed": "fill:#dfd,stroke:#393",
    "dispatched": "fill:#def,stroke:#369",
    "failed": "fill:#fdd,stroke:#933",
}

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from typing import Any


def status_text(view: "dict[str, Any]", *, now: str) -> str:
    """`gangline status AREA`."""
    rows = [_status_row(issue, now) for issue in view["issues"]]
    heads = ("issue", "status", "try", "time", "pane", "title", "note")
    width = terminal_width()
    shown = table(heads, rows, flexible=(5, 6), optional=(4, 2, 5, 3), width=width)
    return f"{_headline(view)}\n{shown}"


def _counts(view: "dict[str, Any]") -> str:
    return ", ".join(f"{n} {status}" for status, n in view["counts"].items() if n)


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


def _mermaid(issues: "dict[str, dict[str, Any]]") -> str:
    """Nodes have made-up names: `end`, `o` or a dot in an id would be read as syntax."""
    names = {key: f"i{number}" for number, key in enumerate(issues)}
    lines = ["graph TD"]
    for key, issue in issues.items():
        label = f"#{key} {one_line(issue['title'], _LABEL_LENGTH)}".rstrip()
        lines.append(f'  {names[key]}["{label.translate(_MERMAID)}"]:::{issue["status"]}')
    lines += [f"  {names[d]} --> {names[k]}" for k, i in issues.items() for d in i["dependsOn"]]
    statuses = {issue["status"] for issue in issues.values()}
    lines += [f"  classDef {s} {style}" for s, style in _MERMAID_STYLES.items() if s in statuses]
    return "\n".join(lines)


def _dot(issues: "dict[str, dict[str, Any]]") -> str:
    lines = ["digraph gangline {", "  rankdir=LR;", "  node [shape=box];"]
    for key, issue in issues.items():
        label = f"#{key} {one_line(issue['title'], _LABEL_LENGTH)}".rstrip()
        # Graphviz reads HTML entities also in quoted labels.
        label = f"{label}\n{issue['status']}".replace("&", "&amp;")
        lines.append(f"  {_dot_text(key)} [label={_dot_text(label)}];")
    for key, issue in issues.items():
        lines += [f"  {_dot_text(other)} -> {_dot_text(key)};" for other in issue["dependsOn"]]
    return "\n".join([*lines, "}"])


def _dot_text(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{quoted}"'
