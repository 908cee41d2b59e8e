"""Qwen Code: `-o stream-json`, the events of Claude Code's format that it took over.

What is different: it names no cost, its input tokens include the cached ones, and when its service
refused it, it ends with exit code 0 and a result that is called a success; only a text that begins
with `[API Error:` tells.
"""

from gangline.agents.readers.claude import ClaudeReader
from gangline.agents.readers.fields import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_API_ERROR = "[API Error"


class QwenReader(ClaudeReader):
    """Reads Qwen Code."""

    def _is_error(self, message: "dict[str, Any]", text: str) -> bool:
        return text.startswith(_API_ERROR)

    def _input_of(self, usage: "dict[str, Any]") -> int:
        """All input tokens of a usage; the cached ones are within them here."""
        return count(usage.get("input_tokens")) or count(usage.get("inputTokens"))

    def _is_failed_text(self, text: str) -> bool:
        return text.startswith(_API_ERROR)


READER = QwenReader
