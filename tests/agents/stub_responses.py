"""OpenAI's Responses interface, as far as Codex uses it."""

import json
from collections.abc import Iterator
from typing import Any

from stub_conversation import Refusal, Reply, Request, Tool, Turn

_ERRORS = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request."),
    529: ("server_error", "server_is_overloaded", "The server is overloaded."),
}


def read(body: dict[str, Any]) -> Request:
    """The request for a response."""
    items = body.get("input", [])
    if isinstance(items, str):
        items = [{"type": "message", "role": "user", "content": items}]
    turns = [turn for item in items for turn in _turns(item)]
    tools = [
        Tool(
            tool.get("name", tool["type"]),
            freeform=tool["type"] == "custom",
            parameters=frozenset(tool.get("parameters", {}).get("properties", {})),
        )
        for tool in body.get("tools", [])
    ]
    return Request(
        model=body.get("model", "stub"),
        stream=bool(body.get("stream")),
        instructions=body.get("instructions") or "",
        turns=tuple(turns),
        tools=tuple(tools),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)


def _turns(item: dict[str, Any]) -> Iterator[Turn]:
    match item.get("type", "message"):
        case "message" if item["role"] == "assistant":
            yield Turn("assistant", _text(item["content"]))
        case "message":
            parts = item["content"]
            for part in [parts] if isinstance(parts, str) else parts:
                text = part if isinstance(part, str) else part.get("text", "")
                # What the program tells the model of itself is no prompt.
                yield Turn("user", text if item["role"] == "user" else f"<developer>{text}")
        case "function_call":
            yield Turn("call", item["arguments"], item["call_id"])
        case "custom_tool_call":
            yield Turn("call", item["input"], item["call_id"])
        case "function_call_output" | "custom_tool_call_output":
            yield Turn("result", _text(item["output"]), item["call_id"])


def _items(reply: Reply) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [
        {
            "type": "message",
            "id": "msg_stub",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": reply.text, "annotations": []}],
        }
    ]
    for call in reply.calls:
        shared = {"call_id": f"call_{call.call_id}", "name": call.tool.name, "status": "completed"}
        if call.tool.freeform:
            items.append(
                {"type": "custom_tool_call", "id": "ctc_stub", "input": call.text, **shared}
            )
        else:
            arguments = json.dumps(call.arguments)
            items.append(
                {"type": "function_call", "id": "fc_stub", "arguments": arguments, **shared}
            )
    return items


def whole(request: Request, reply: Reply, number: int) -> dict[str, Any]:
    """The reply as one document."""
    usage = reply.usage
    return {
        "id": f"resp_stub{number:08}",
        "object": "response",
        "status": "completed",
        "model": request.model,
        "output": _items(reply),
        "usage": {
            "input_tokens": usage.input,
            "input_tokens_details": {"cached_tokens": usage.cached},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input + usage.output,
        },
    }


def events(request: Request, reply: Reply, number: int) -> Iterator[tuple[str | None, Any]]:
    """The reply as server-sent events: name and data, in order."""
    document = whole(request, reply, number)
    begun = {**document, "status": "in_progress", "output": [], "usage": None}
    yield _event("response.created", response=begun)
    for index, item in enumerate(document["output"]):
        place = {"output_index": index}
        empty = {**item, "status": "in_progress"}
        if item["type"] == "message":
            part = {"item_id": item["id"], "content_index": 0, **place}
            yield _event("response.output_item.added", item={**empty, "content": []}, **place)
            yield _event("response.output_text.delta", delta=item["content"][0]["text"], **part)
        else:
            yield _event("response.output_item.added", item=empty, **place)
        yield _event("response.output_item.done", item=item, **place)
    yield _event("response.completed", response=document)


def _event(name: str, **data: Any) -> tuple[str, dict[str, Any]]:
    return name, {"type": name, **data}


def refusal(refused: Refusal) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and document of an error."""
    if refused.limit_reset is not None:
        # What the service says of a ChatGPT plan's limit.
        error = {
            "type": "usage_limit_reached",
            "message": "The usage limit has been reached",
            "plan_type": "plus",
            "resets_at": refused.limit_reset,
        }
        return {}, {"error": error}
    kind, code, text = _ERRORS.get(refused.status, _ERRORS[500])
    return {}, {"error": {"type": kind, "code": code, "message": text, "param": None}}
