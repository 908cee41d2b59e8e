"""Qwen Code: `-o stream-json`, the events of Claude Code's format that it took over.

What is different: it names no cost, its input tokens include the cached ones, and when its service
refused it, it ends with exit code 0 and a result that is called a success; only a text that ends
with `[API Error: …]` tells.
"""

from gangline.agents.readers.claude import ClaudeReader
from gangline.agents.readers.fields import count

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_API_ERROR = "[API Error:"


class QwenReader(ClaudeReader):
    """Reads Qwen Code."""

    def _is_error(self, message: "dict[str, Any]", text: str) -> bool:
        return self._is_failed_text(text)

    def _input_of(self, usage: "dict[str, Any]") -> int:
        """All input tokens of a usage; the cached ones are within them here."""
        return count(usage.get("input_tokens")) or count(usage.get("inputTokens"))

    def _is_failed_text(self, text: str) -> bool:
        """Whether it stands alone, or after what was said before the stream broke."""
        at = text.rfind(_API_ERROR)
        whole = text.startswith(_API_ERROR)
        return whole or (at > 0 and text.endswith("]") and "\n" not in text[at:])

    def _fail(self, text: str, kind: str | None = None) -> None:
        super()._fail(text[max(0, text.rfind(_API_ERROR)) :], kind)


READER = QwenReader
