"""A fresh HOME for each agent, set up to talk to the stub: files and variables, nothing else.

What a person does once (onboarding, trust, login) is written here as the programs store it, so that
no dialog comes. Homes hold no real keys: the stub asks for none.
"""

import json
from pathlib import Path

KEY = "stub-key-0123456789"
MODEL = "stub-model"
# A usage limit is a subscription's: with an API key the same answer is only a rate.
CLAUDE_SUBSCRIPTION = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": KEY}


def prepare(agent: str, home: Path, url: str, trusted: Path) -> dict[str, str]:
    """Set up `home` for the agent.

    Args:
        agent: Its name in presets.toml.
        home: The folder; it is there.
        url: Of the stub.
        trusted: The repository in which it is going to work.

    Returns:
        The variables it needs beside HOME and PATH.
    """
    return {
        "claude": _claude,
        "codex": _codex,
        "opencode": _opencode,
        "qwen": _qwen,
        "aider": _aider,
    }[agent](home, url, trusted)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _claude(home: Path, url: str, trusted: Path) -> dict[str, str]:
    known = {
        "hasCompletedOnboarding": True,
        "bypassPermissionsModeAccepted": True,
        "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
        "projects": {str(trusted): {"hasTrustDialogAccepted": True}},
    }
    _write(home / ".claude.json", json.dumps(known))
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "2",
    }


def distrust(agent: str, home: Path) -> None:
    """Take back that a person trusts the repository: the interface asks for it at its start."""
    if agent == "claude":
        known = json.loads((home / ".claude.json").read_text())
        del known["projects"]
        _write(home / ".claude.json", json.dumps(known))
    else:
        settings = home / ".codex" / "config.toml"
        _write(settings, settings.read_text().partition("[projects.")[0])


def _codex(home: Path, url: str, trusted: Path) -> dict[str, str]:
    settings = f"""\
model = "gpt-5.5"
model_provider = "stub"
check_for_update_on_startup = false

[model_providers.stub]
name = "Stub"
base_url = "{url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 2

[analytics]
enabled = false

[notice.model_migrations]
"gpt-5.5" = "gpt-6-sol"

[projects.{json.dumps(str(trusted))}]
trust_level = "trusted"
"""
    _write(home / ".codex" / "config.toml", settings)
    return {"OPENAI_API_KEY": KEY}


def _opencode(home: Path, url: str, trusted: Path) -> dict[str, str]:
    settings = {
        "autoupdate": False,
        "share": "disabled",
        "model": f"stub/{MODEL}",
        "small_model": f"stub/{MODEL}",
        "provider": {
            "stub": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "Stub",
                "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
                "models": {MODEL: {"name": "Stub", "limit": {"context": 200_000, "output": 8192}}},
            }
        },
    }
    _write(home / ".config" / "opencode" / "opencode.json", json.dumps(settings))
    return {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1"}  # fmt: skip


def _qwen(home: Path, url: str, trusted: Path) -> dict[str, str]:
    settings = {
        "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
        "privacy": {"usageStatisticsEnabled": False},
        "security": {"auth": {"selectedType": "openai"}},
    }
    _write(home / ".qwen" / "settings.json", json.dumps(settings))
    return {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_MODEL": MODEL}


def _aider(home: Path, url: str, trusted: Path) -> dict[str, str]:
    known = {f"openai/{MODEL}": {"max_input_tokens": 200_000, "max_output_tokens": 8192,
                                 "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6,
                                 "litellm_provider": "openai", "mode": "chat"}}  # fmt: skip
    _write(home / ".aider.model.metadata.json", json.dumps(known))
    settings = f"model: openai/{MODEL}\nedit-format: diff\nshow-model-warnings: false\n"
    _write(home / ".aider.conf.yml", settings)
    return {"OPENAI_API_KEY": KEY, "OPENAI_API_BASE": f"{url}/v1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # fmt: skip
