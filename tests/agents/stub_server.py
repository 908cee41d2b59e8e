"""A model service on loopback that coding agents talk to instead of a real one.

It speaks Anthropic Messages, OpenAI Responses and OpenAI Chat Completions, answers as
`stub_scenarios` decides, and keeps everything it received, so that a test can prove what an agent
sent: that a resumed session sent its history, for one. Nothing in it waits for a time.
"""

import json
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import stub_anthropic
import stub_chat
import stub_responses
from stub_conversation import Refusal, Reply, Request
from stub_scenarios import Directive, Model, find_directive

_INTERFACES = {
    "/messages": stub_anthropic,
    "/responses": stub_responses,
    "/chat/completions": stub_chat,
}
_MODELS = ("stub-model", "claude-sonnet-4-5", "gpt-5-codex")
_SECRET_HEADERS = frozenset({"authorization", "x-api-key"})


@dataclass(frozen=True)
class Received:
    """One request as it came.

    Attributes:
        key: The conversation's name (see `stub_scenarios`), where the request has a STUB line.
        request: What was understood of it; None for anything but a turn of a conversation.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    key: str | None = None
    request: Request | None = None

    @property
    def is_work(self) -> bool:
        """Whether it is a turn of the agent's work, not a title or a count."""
        return self.request is not None and self.request.is_work


class Stub:
    """The server; `with Stub(folder) as stub:` runs it.

    Args:
        folder: What it received is kept there as `received.jsonl`, and gates of waiting tools.
        listener: A listening socket, of another network namespace for one; else one is made.
    """

    def __init__(self, folder: Path, listener: socket.socket | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.model = Model(folder / "gates")
        self.received: list[Received] = []
        self._log = (folder / "received.jsonl").open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._server = _Server(self, listener or socket.create_server(("127.0.0.1", 0)))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.model.release_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._log.close()

    @property
    def url(self) -> str:
        """Where it is, without a final slash; OpenAI's interfaces are below `/v1`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self, key: str) -> None:
        """Let go what waits in the conversation of this name: a tool, a stream, a usage limit."""
        self.model.release(key)

    def waiting_tool(self, key: str) -> int | None:
        """The process id of the shell that waits in this conversation's tool, once it does."""
        return self.model.waiting_tool(key)

    def set_default(self, scenario: str, **options: str) -> None:
        """What conversations without a STUB line get."""
        self.model.default = Directive(scenario, options)

    def work(self, key: str) -> list[Received]:
        """The turns of the agent's work in the conversation of this name."""
        with self._lock:
            return [item for item in self.received if item.is_work and item.key == key]

    def keep(self, received: Received) -> int:
        """Remember a request; its number."""
        line = {
            "method": received.method,
            "path": received.path,
            "headers": received.headers,
            "key": received.key,
            "body": received.body,
        }
        with self._lock:
            self.received.append(received)
            if not self._log.closed:
                self._log.write(json.dumps(line) + "\n")
                self._log.flush()
            return len(self.received)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, stub: Stub, listener: socket.socket) -> None:
        self.stub = stub
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_address = listener.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that was killed leaves a broken connection; that is no fault of the stub."""
        import sys

        if not isinstance(sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1],
                          ConnectionError):  # fmt: skip
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """The record is `received.jsonl`."""

    def do_GET(self) -> None:
        self._keep(None)
        path = urllib.parse.urlsplit(self.path).path
        if path.endswith("/models"):
            data = [{"id": name, "object": "model", "type": "model", "display_name": name,
                     "created_at": "2025-01-01T00:00:00Z", "owned_by": "stub"}
                    for name in _MODELS]  # fmt: skip
            self._send(200, {"object": "list", "data": data, "has_more": False})
        else:
            self._send(404, {"error": {"type": "not_found_error", "message": "not found"}})

    def do_HEAD(self) -> None:
        self._keep(None)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(data or b"null")
        except ValueError:
            body = data.decode("utf-8", "replace")
        path = urllib.parse.urlsplit(self.path).path
        interface = next((m for end, m in _INTERFACES.items() if path.endswith(end)), None)
        if interface is None or not isinstance(body, dict):
            self._keep(body)
            self._send(200, {"input_tokens": 1000} if path.endswith("/count_tokens") else {})
            return
        request = interface.read(body)
        number = self._keep(body, request)
        answer = self.server.stub.model.answer(request)
        if isinstance(answer, Refusal) and answer.status == 0:
            self.close_connection = True
        elif isinstance(answer, Refusal):
            headers, document = interface.refusal(answer)
            self._send(answer.status, document, headers)
        elif request.stream:
            self._stream(answer, interface.events(request, answer, number))
        else:
            self._send(200, interface.whole(request, answer, number))

    def _keep(self, body: Any, request: Request | None = None) -> int:
        directive = find_directive(request.turns) if request else None
        headers = {
            name.lower(): "(kept out)" if name.lower() in _SECRET_HEADERS else value
            for name, value in self.headers.items()
        }
        key = directive.key if directive else None
        return self.server.stub.keep(Received(self.command, self.path, headers, body, key, request))

    def _send(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, reply: Reply, events: Iterator[tuple[str | None, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number, (name, data) in enumerate(events):
            if number == 2 and reply.cut:
                self.close_connection = True  # without the end mark of the body
                return
            if number == 2 and reply.hold is not None:
                self.server.stub.model.wait(reply.hold)
            text = data if isinstance(data, str) else json.dumps(data)
            event = f"event: {name}\n" if name else ""
            self._chunk(f"{event}data: {text}\n\n".encode())
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
