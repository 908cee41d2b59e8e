"""What all tests share: the stages they play on say what was wrong, as tests do."""

import pytest

pytest.register_assert_rewrite("project", "crew", "attempt_stage", "promises")
