"""OpenAI's Chat Completions interface, which most other agents speak."""

import json
from collections.abc import Iterator
from typing import Any

from stub_conversation import Refusal, Reply, Request, Tool, Turn
from stub_responses import refusal as _responses_refusal


def read(body: dict[str, Any]) -> Request:
    """The request for a completion."""
    turns = []
    instructions = []
    for message in body.get("messages", []):
        text = _text(message.get("content"))
        match message["role"]:
            case "system" | "developer":
                instructions.append(text)
            case "tool":
                turns.append(Turn("result", text, message["tool_call_id"]))
            case "assistant":
                if text:
                    turns.append(Turn("assistant", text))
                turns += [
                    Turn("call", call["function"]["arguments"], call["id"])
                    for call in message.get("tool_calls") or []
                ]
            case _:
                parts = message.get("content")
                texts = [_text([part]) for part in parts] if isinstance(parts, list) else [text]
                turns += [Turn("user", part) for part in texts]
    tools = [
        Tool(
            tool["function"]["name"],
            parameters=frozenset(tool["function"].get("parameters", {}).get("properties", {})),
        )
        for tool in body.get("tools") or []
    ]
    return Request(
        model=body.get("model", "stub"),
        stream=bool(body.get("stream")),
        instructions="\n".join(instructions),
        turns=tuple(turns),
        tools=tuple(tools),
    )


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text", "") for part in content)


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "id": f"call_{call.call_id}",
            "type": "function",
            "function": {"name": call.tool.name, "arguments": json.dumps(call.arguments)},
        }
        for index, call in enumerate(reply.calls)
    ]


def _usage(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def _head(request: Request, number: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-stub{number:08}",
        "object": kind,
        "created": 1_700_000_000,
        "model": request.model,
    }


def whole(request: Request, reply: Reply, number: int) -> dict[str, Any]:
    """The reply as one document."""
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.calls:
        message["tool_calls"] = _calls(reply)
    finish = "tool_calls" if reply.calls else "stop"
    return {
        **_head(request, number, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": _usage(reply),
    }


def events(request: Request, reply: Reply, number: int) -> Iterator[tuple[str | None, Any]]:
    """The reply as server-sent events, in order; they bear no names."""
    head = _head(request, number, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[None, dict[str, Any]]:
        return None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    yield chunk({"content": reply.text})
    for call in _calls(reply):
        yield chunk({"tool_calls": [call]})
    yield chunk({}, "tool_calls" if reply.calls else "stop")
    yield None, {**head, "choices": [], "usage": _usage(reply)}
    yield None, "[DONE]"


def refusal(refused: Refusal) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers and document of an error."""
    if refused.limit_reset is not None:
        error = {
            "type": "insufficient_quota",
            "code": "insufficient_quota",
            "message": "You exceeded your current quota, please check your plan and billing"
            " details.",
            "param": None,
        }
        return {}, {"error": error}
    return _responses_refusal(refused)
