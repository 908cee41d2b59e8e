"""Anthropic's Messages interface, as far as coding agents use it."""

import json
import time
from collections.abc import Iterator
from typing import Any

from stub_conversation import Refusal, Reply, Request, Tool, Turn

_ERRORS = {
    401: ("authentication_error", "invalid x-api-key"),
    429: ("rate_limit_error", "This request would exceed your account's rate limit."),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


def read(body: dict[str, Any]) -> Request:
    """The request for a message."""
    turns = [
        turn
        for message in body.get("messages", [])
        for block in _blocks(message["content"])
        if (turn := _turn(message["role"], block)) is not None
    ]
    tools = [
        Tool(tool["name"], parameters=frozenset(tool.get("input_schema", {}).get("properties", {})))
        for tool in body.get("tools", [])
    ]
    instructions = "\n".join(block.get("text", "") for block in _blocks(body.get("system", "")))
    return Request(
        model=body.get("model", "stub"),
        stream=bool(body.get("stream")),
        instructions=instructions,
        turns=tuple(turns),
        tools=tuple(tools),
    )


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _turn(role: str, block: dict[str, Any]) -> Turn | None:
    match block["type"]:
        case "text":
            return Turn("assistant" if role == "assistant" else "user", block["text"])
        case "tool_use":
            return Turn("call", json.dumps(block["input"]), block["id"])
        case "tool_result":
            text = "\n".join(part.get("text", "") for part in _blocks(block.get("content", "")))
            return Turn("result", text, block["tool_use_id"], bool(block.get("is_error")))
    return None


def _content(reply: Reply) -> list[dict[str, Any]]:
    calls = [
        {"type": "tool_use", "id": f"toolu_{call.call_id}", "name": call.tool.name,
         "input": call.arguments}
        for call in reply.calls
    ]  # fmt: skip
    return [{"type": "text", "text": reply.text}, *calls]


def _message(request: Request, reply: Reply, number: int) -> dict[str, Any]:
    return {
        "id": f"msg_stub{number:08}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": _content(reply),
        "stop_reason": "tool_use" if reply.calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": reply.usage.input - reply.usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": reply.usage.cached,
            "output_tokens": reply.usage.output,
        },
    }


def whole(request: Request, reply: Reply, number: int) -> dict[str, Any]:
    """The reply as one document."""
    return _message(request, reply, number)


def events(request: Request, reply: Reply, number: int) -> Iterator[tuple[str | None, Any]]:
    """The reply as server-sent events: name and data, in order."""
    message = _message(request, reply, number)
    content, message["content"] = message["content"], []
    stop, message["stop_reason"] = message["stop_reason"], None
    usage = message["usage"]
    started = {**message, "usage": {**usage, "output_tokens": 1}}
    yield _event("message_start", message=started)
    for index, block in enumerate(content):
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield _event("content_block_start", index=index, content_block=empty)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    yield _event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage)
    yield _event("message_stop")


def _event(name: str, **data: Any) -> tuple[str, dict[str, Any]]:
    return name, {"type": name, **data}


def refusal(refused: Refusal) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and document of an error."""
    headers = {"request-id": "req_stub"}
    kind, text = _ERRORS.get(refused.status, _ERRORS[500])
    if refused.limit_reset is not None:
        # What the service says of a subscription's five-hour limit.
        reset = str(refused.limit_reset)
        headers |= {
            "anthropic-ratelimit-unified-status": "rejected",
            "anthropic-ratelimit-unified-reset": reset,
            "anthropic-ratelimit-unified-representative-claim": "five_hour",
            "anthropic-ratelimit-unified-5h-status": "rejected",
            "anthropic-ratelimit-unified-5h-reset": reset,
            "anthropic-ratelimit-unified-5h-utilization": "1.0",
            "retry-after": str(max(1, refused.limit_reset - int(time.time()))),
        }
    return headers, {"type": "error", "error": {"type": kind, "message": text}}
