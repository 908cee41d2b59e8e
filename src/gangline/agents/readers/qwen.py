"""Qwen Code: `-o stream-json`, the events of Claude Code's format that it took over.

What is different: it names no cost, it ends with exit code 0 and a result that is called a success
when its service refused it, and says so only in a text that begins with `[API Error:`.
"""

from gangline.agents.readers.claude import ClaudeReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_API_ERROR = "[API Error"


class QwenReader(ClaudeReader):
    """Reads Qwen Code."""

    def _is_error(self, message: "dict[str, Any]", text: str) -> bool:
        return text.startswith(_API_ERROR)

    def _is_failed_text(self, text: str) -> bool:
        return text.startswith(_API_ERROR)


READER = QwenReader
