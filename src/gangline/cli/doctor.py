"""`gangline doctor`: findings as lines for people or objects for scripts."""

import json
from itertools import groupby

from gangline.app.doctor import examine
from gangline.app.doctor_findings import GROUPS, Finding, Level, exit_code
from gangline.cli.lines import say
from gangline.cli.table import folded, prepare_output, terminal_width
from gangline.core.text import harmless_json, one_line

_INDENT = " " * 9  # where messages begin


def show_doctor(area: str | None, *, as_json: bool) -> int:
    """Print what is found, of every area or of one; the exit code.

    0: nothing is wrong, though there may be notes; 2: the machine or the settings cannot run it;
    4: the state needs a person.

    Raises:
        InputError: `area` can be the name of none.
    """
    prepare_output()
    findings = examine(area)
    order = list(dict.fromkeys(GROUPS.values()))
    findings.sort(key=lambda f: (order.index(GROUPS[f.check]), _area_of(f)))
    say(_json_text(findings) if as_json else _text(findings, terminal_width()))
    return exit_code(findings)


def _area_of(finding: Finding) -> str:
    """The area that its heading names: what is left behind has one heading for all areas."""
    return (finding.area or "") if GROUPS[finding.check] == "area" else ""


def _json_text(findings: list[Finding]) -> str:
    """The contract: a list of {check, area?, level, message, command?}."""
    listed = []
    for finding in findings:
        each = {
            "check": finding.check,
            "area": finding.area,
            "level": finding.level.value,
            "message": finding.message,
            "command": finding.command,
        }
        listed.append({key: value for key, value in each.items() if value is not None})
    return harmless_json(json.dumps(listed, ensure_ascii=False, indent=2))


def _text(findings: list[Finding], width: int) -> str:
    lines = []
    for (group, area), members in groupby(findings, lambda f: (GROUPS[f.check], _area_of(f))):
        lines.append(f"{group} {area}".rstrip())
        for finding in members:
            lines += _lines_of(finding, width)
    return "\n".join([*lines, _verdict(findings)])


def _lines_of(finding: Finding, width: int) -> list[str]:
    """The finding on one line, folded on a terminal; its command below, never folded or cut."""
    named = "" if GROUPS[finding.check] != "area" else f"{finding.check}: "
    text = f"  {finding.level.value:<5}  {one_line(named + finding.message)}"
    lines = folded(text, width, len(_INDENT))
    return lines + ([f"{_INDENT}$ {finding.command}"] if finding.command else [])


def _verdict(findings: list[Finding]) -> str:
    wrong = sum(finding.level is Level.WRONG for finding in findings)
    notes = sum(finding.level is Level.NOTE for finding in findings)
    counted = [f"{wrong} wrong"] if wrong else []
    if notes:
        counted.append(f"{notes} note{'s' * (notes > 1)}")
    return "\n" + (", ".join(counted) if counted else "nothing is wrong")
