"""What a coding agent asked a model, and what the stub model answers, apart from any wire format.

The three interfaces (`stub_anthropic`, `stub_responses`, `stub_chat`) turn a request into a
`Request` and a `Reply` into bytes; `stub_scenarios` stands between them and knows no format.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

# The agents do not change the ids of calls, so an id says of which step a result is.
_CALL_ID = re.compile(r"stub_(\d+)_\d+\Z")
# What agents add to a conversation by themselves stands in tags or says what it is.
_NOT_A_PERSON = re.compile(r"\s*(<|# AGENTS\.md|# Environment|\[SYSTEM|This is the Qwen Code\.)")
_WORKING_FOLDER = re.compile(
    r"(?:Primary working directory: |Working directory: |<cwd>"
    r"|current working directory is: |working in the directory: )([^\s<]+)"
)
_EDITS_WITHOUT_TOOLS = "SEARCH/REPLACE"  # Aider tells the model so

SHELL_TOOLS = ("Bash", "exec_command", "shell_command", "shell", "bash", "run_shell_command")
WRITE_TOOLS = ("Write", "apply_patch", "write", "write_file")


@dataclass(frozen=True)
class Turn:
    """One item of a conversation.

    Attributes:
        call_id: Of a call or a result; empty for texts.
        failed: Whether the agent marked the result as a failure.
    """

    kind: Literal["user", "assistant", "call", "result"]
    text: str
    call_id: str = ""
    failed: bool = False

    @property
    def step(self) -> int | None:
        """The number of the scenario's step that this call or result belongs to."""
        found = _CALL_ID.search(self.call_id)
        return int(found[1]) if found else None

    @property
    def is_prompt(self) -> bool:
        """Whether a person (or Gangline) said it."""
        return self.kind == "user" and not _NOT_A_PERSON.match(self.text)


@dataclass(frozen=True)
class Tool:
    """A tool that the agent offers; `freeform` takes text instead of JSON."""

    name: str
    freeform: bool = False
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Request:
    """A request for the next turn of a conversation.

    Attributes:
        instructions: The system prompt and whatever is no turn.
    """

    model: str
    stream: bool
    instructions: str
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...]

    def tool(self, names: tuple[str, ...]) -> Tool | None:
        """The first of these tools that is offered."""
        offered = {tool.name: tool for tool in self.tools}
        return next((offered[name] for name in names if name in offered), None)

    @property
    def is_work(self) -> bool:
        """Whether it is a turn of the agent's work, not a title or a commit message."""
        return bool(self.tools) or _EDITS_WITHOUT_TOOLS in self.instructions

    @property
    def working_folder(self) -> str | None:
        """Where the agent says that it works."""
        texts = [self.instructions, *(turn.text for turn in self.turns if turn.kind == "user")]
        found = [m for text in texts for m in _WORKING_FOLDER.findall(text)]
        return found[-1] if found else None


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply; `input` includes `cached`."""

    input: int = 1200
    cached: int = 800
    output: int = 40


@dataclass(frozen=True)
class Call:
    """A call of a tool: JSON arguments, or text for a freeform tool."""

    call_id: str
    tool: Tool
    arguments: dict[str, Any] = field(default_factory=dict)
    text: str = ""


@dataclass(frozen=True)
class Reply:
    """A turn of the model.

    Attributes:
        cut: The connection is dropped in the middle.
        hold: The stream stands still in the middle until this key is released.
    """

    text: str
    calls: tuple[Call, ...] = ()
    usage: Usage = Usage()
    cut: bool = False
    hold: str | None = None


@dataclass(frozen=True)
class Refusal:
    """An error of the service.

    Attributes:
        status: Of HTTP; 0 for a connection that is closed without an answer.
        limit_reset: The usage limit is reached until then (epoch seconds).
    """

    status: int
    limit_reset: int | None = None
