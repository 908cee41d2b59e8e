"""The streams that readers are tested on: recorded outputs of the real programs, and (doc) ones.

`recorded/{agent}/{scenario}.jsonl` (`.txt` for Aider) is what the program printed; runs.json beside
them says how it ended and what came on stderr.
"""

import json
from pathlib import Path

import pytest

from gangline.agents.readers import reader

RECORDED = Path(__file__).resolve().parents[2] / "agents" / "recorded"
DOCUMENTED = Path(__file__).with_name("documented")
READERS = {
    "claude": "claude-stream-json",
    "codex": "codex-json",
    "opencode": "opencode-json",
    "qwen": "qwen-stream-json",
    "aider": "aider-text",
    "gemini": "gemini-json",
    "copilot": "copilot-json",
}


def runs(agent: str) -> dict:
    """What was recorded of an agent, by scenario."""
    return json.loads((RECORDED / agent / "runs.json").read_text(encoding="utf-8"))


def output_of(agent: str, scenario: str) -> bytes:
    """What it printed: stderr first, for how the two were mixed was not recorded."""
    found = next((RECORDED / agent).glob(f"{scenario}.*"))
    return runs(agent)[scenario]["stderr"].encode() + found.read_bytes()


def recorded() -> list[tuple[str, str]]:
    """Every (agent, scenario) there is."""
    return [
        (folder.name, scenario)
        for folder in sorted(RECORDED.iterdir())
        if (folder / "runs.json").exists()
        for scenario in runs(folder.name)
    ]


def documented(agent: str) -> list[tuple[str, bytes]]:
    """The streams of an agent that was not recorded, by name, written after its documentation."""
    return [(path.stem, path.read_bytes()) for path in sorted(DOCUMENTED.glob(f"{agent}-*"))]


def strict_reader(name: str, **options):
    """A reader that does not swallow its own errors: an error in a test fails it."""
    made = reader(name, **options)

    def whole(method):
        def call(*given):
            try:
                return method(*given)
            except Exception as error:  # noqa: BLE001 - turned into what the reader lets through
                pytest.fail(f"{type(error).__name__}: {error} on {given!r:.300}")

        return call

    made._read = whole(made._read)
    made._last_lines = whole(made._last_lines)
    return made


def _streams():
    chosen = ("ok", "denied", "limit", "error-401", "cut-in-work", "unknown-id")
    for agent, scenario in sorted(recorded(), key=lambda one: (one[0], one[1] != "ok", one[1])):
        if scenario in chosen:
            yield pytest.param(READERS[agent], output_of(agent, scenario), id=f"{agent}-{scenario}")
    for agent in ("gemini", "copilot"):
        for scenario, stream in documented(agent):
            yield pytest.param(READERS[agent], stream, id=scenario)
    yield pytest.param("plain", b"one\ntwo \xff three\r\n\nlast line, \xe2\x9c\x93", id="plain")


STREAMS = list(_streams())


def _kinds(value):
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for inner in value.values():
            yield from _kinds(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _kinds(inner)


FORMATS = {
    (param.values[0], kind)
    for param in STREAMS
    for line in param.values[1].splitlines()
    if line.startswith(b'{"')
    for kind in _kinds(json.loads(line))
}
