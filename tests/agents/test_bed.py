"""What the tests of this folder stand on: the pinned programs, the stub, the closed network."""

import http.client
import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import install
import pytest
from network import loopback_only
from stub_server import Stub

INSIDE = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))):
    print("the stub is reached")
try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError as error:
    print(error.strerror)
"""


def ask(stub: Stub, prompt: str, *, stream: bool = False) -> bytes:
    """The answer of the Chat interface to a person who offers one tool, a shell."""
    tool = {"type": "function", "function": {"name": "bash", "parameters": {"properties": {}}}}
    body = {"messages": [{"role": "user", "content": prompt}], "tools": [tool], "stream": stream}
    request = urllib.request.Request(
        f"{stub.url}/v1/chat/completions", json.dumps(body).encode(), {"x-api-key": "secret"}
    )
    with urllib.request.urlopen(request) as answer:
        content: bytes = answer.read()
        return content


def test_network_of_an_agent_has_the_stub_and_nothing_else(tmp_path: Path):
    network = loopback_only()
    if network is None:
        pytest.skip("a network namespace cannot be made here: no root, or not the right to")
    listener = network.listen()
    port = str(listener.getsockname()[1])
    try:
        with Stub(tmp_path, listener):
            said = subprocess.run(
                network.wrap([sys.executable, "-c", INSIDE, port]),
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", int(port)))
    finally:
        network.close()
    assert said == ["the stub is reached", "Network is unreachable"]


def test_stub_keeps_what_it_received_and_no_key(tmp_path: Path):
    with Stub(tmp_path) as stub:
        ask(stub, "STUB: ok name=mine")
        ask(stub, "STUB: ok name=other")
        assert len(stub.work("mine")) == 1
    lines = [json.loads(line) for line in (tmp_path / "received.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == ["mine", "other"]
    assert lines[0]["body"]["messages"][0]["content"] == "STUB: ok name=mine"
    assert "secret" not in (tmp_path / "received.jsonl").read_text()


def test_limit_lasts_until_it_is_released(tmp_path: Path):
    with Stub(tmp_path) as stub:
        for _ in range(2):
            with pytest.raises(urllib.error.HTTPError, match="429") as refused:
                ask(stub, "STUB: limit name=mine reset=4070908800")
            refused.value.close()
        stub.release("mine")
        assert b"I write" in ask(stub, "STUB: limit name=mine reset=4070908800")


def test_cut_breaks_the_stream_once(tmp_path: Path):
    with Stub(tmp_path) as stub:
        with pytest.raises(http.client.IncompleteRead):
            ask(stub, "STUB: cut name=mine", stream=True)
        assert b"[DONE]" in ask(stub, "STUB: cut name=mine", stream=True)


@pytest.mark.parametrize("agent", install.AGENTS)
def test_what_is_installed_is_left_alone(agent: str, monkeypatch: pytest.MonkeyPatch):
    if not install.is_installed(agent):
        pytest.skip(f"{agent} is not installed: make test-agents AGENTS={agent}")

    def refuse(*argv: object, **options: object) -> None:
        raise AssertionError(f"it ran {argv}")

    monkeypatch.setattr(install, "_run", refuse)
    install.install(agent)


def test_pins_name_no_address():
    pins = [path for path in install.PINS.rglob("*") if path.is_file()]
    assert len(pins) >= 2 * (len(install.AGENTS) + 1)
    for path in pins:
        text = path.read_text()
        assert "://" not in text, path
        assert '"resolved"' not in text, path
