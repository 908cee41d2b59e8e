"""`gangline agents`: which agents are installed, and what Gangline can do with each."""

import msgspec

from gangline.app.agents_found import AgentFound
from gangline.app.machine import look_at_agents
from gangline.app.wiring import Project
from gangline.cli.lines import say, say_json
from gangline.cli.table import prepare_output, table, terminal_width
from gangline.errors import EXIT_OK

_SESSIONS = {"ours": "id chosen by Gangline", "seen": "id seen in its output", "none": ""}


def show_agents(*, as_json: bool) -> int:
    """Print every agent; with `as_json` a list of app.agents_found.AgentFound."""
    prepare_output()
    project = Project()
    found = look_at_agents(project.config, project.top)
    if as_json:
        say_json([msgspec.to_builtins(agent) for agent in found])
    else:
        say(agents_text(found, terminal_width()))
    return EXIT_OK


def agents_text(found: list[AgentFound], width: int) -> str:
    """A table, and the commands that install what is missing, never cut."""
    rows = [_row(agent) for agent in found]
    heads = ("agent", "version", "runs", "resumes", "session", "says", "note")
    lines = [table(heads, rows, flexible=(6,), optional=(4, 5, 6, 2), width=width)]
    missing = [agent for agent in found if not agent.found and agent.install]
    if missing:
        lines += ["", "Not found; the tested version of one is installed by:"]
        lines += [f"  {agent.name}: {agent.install}" for agent in missing]
    return "\n".join(lines)


def _row(agent: AgentFound) -> list[str]:
    runs = [word for word, can in (("headless", True), ("interactive", agent.interactive)) if can]
    goes_on = [
        word
        for word, can in (("headless", agent.resume), ("interactive", agent.interactive_resume))
        if can
    ]
    known = (("tokens", agent.usage), ("cost", agent.cost), ("limits", agent.limits))
    says = [word for word, can in known if can]
    return [
        agent.name + ("*" if agent.is_default else ""),
        _version(agent),
        ", ".join(runs),
        ", ".join(goes_on) or "starts afresh",
        _SESSIONS[agent.session] if goes_on else "",
        ", ".join(says),
        "; ".join(_notes(agent)),
    ]


def _version(agent: AgentFound) -> str:
    if not agent.found:
        return "not found"
    return agent.version or ("found" if agent.path else "in the worktree")


def _notes(agent: AgentFound) -> list[str]:
    notes = ["[batch] agent"] if agent.is_default else []
    if agent.mode == "interactive":
        notes.append("runs interactive")
    if agent.own:
        notes.append(f"your own: {agent.program}")
    if agent.doc_only:
        notes.append("never run with Gangline: it follows its documentation")
    elif agent.found and agent.version and agent.tested not in (None, agent.version):
        notes.append(f"{agent.tested} was tested")
    if agent.account != agent.name:
        notes.append(f"account {agent.account}")
    return notes
