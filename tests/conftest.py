"""What all tests share: the stages they play on say what was wrong, as tests do."""

import signal

import pytest

# A script that runs the tests in the background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest.register_assert_rewrite("project", "crew", "attempt_stage", "promises")
