# Everything runs in .venv, made from requirements.lock; nothing else is needed but Python 3.11+, git and make.
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-agents prove planted gauntlet lint bench lock clean

PYTHON ?= python3
BIN := .venv/bin
PYTEST_WORKERS ?= 3
# For test-agents: AGENTS="claude codex" installs and tests only those.
AGENTS ?= claude codex opencode qwen aider

help:
	@echo "make demo      a real batch, killed with -9 in the middle and resumed"
	@echo "make test      lint, types, architecture and all tests"
	@echo "make test-agents   the real agent programs, pinned, against a stub model (AGENTS=\"claude codex\": only those)"
	@echo "make prove     crashes at every step: a part of what make gauntlet does"
	@echo "make gauntlet  all of it and the planted bugs, less than an hour (bench/GAUNTLET.md, bench/PLANTED.md)"
	@echo "make planted   mistakes put into copies of the program; all have to be found (bench/PLANTED.md)"
	@echo "make bench     the speed figures, against other job runners (bench/RESULTS.md)"
	@echo "make soak   simulated histories with faults, on and on (bench/SOAK.md)"

# The stamp is remade when the lock or the project's metadata change.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Gangline needs Python 3.11 or newer; run: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@# uv's start script does not import `re`, as that of an older pip does: 4 ms of each `status`.
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-cache --no-deps --no-build-isolation -e .
	@touch $@

setup: .venv/.installed
	@sh scripts/install-system-tools.sh tmux jq

demo: setup
	@$(BIN)/gangline demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	@sh scripts/install-system-tools.sh zsh fish dash $(if $(filter Linux,$(shell uname)),strace)
	$(BIN)/pytest -n $(PYTEST_WORKERS) --ignore tests/prove --ignore tests/hostile --ignore tests/agents

# The programs stay in .agents-cache (or where GANGLINE_AGENTS_CACHE says); no model service is asked.
test-agents: setup
	$(BIN)/python tests/agents/install.py $(AGENTS)
	GANGLINE_AGENTS="$(AGENTS)" $(BIN)/pytest -n 2 tests/agents

prove: setup
	@sh scripts/install-system-tools.sh strace
	$(BIN)/pytest -n 2 tests/prove tests/hostile

planted: setup
	PYTHONPATH=bench $(BIN)/python -m gauntlet.planted_run

# SEED=42 makes the choices of an earlier run again.
gauntlet: setup
	@sh scripts/install-system-tools.sh strace
	$(BIN)/python -m bench.gauntlet $(if $(SEED),--seed $(SEED))
	$(BIN)/pytest -n 2 tests/hostile
	PYTHONPATH=bench $(BIN)/python -m gauntlet.planted_run

bench: setup
	$(BIN)/python bench/run.py
	$(BIN)/python bench/shims.py

# Until Ctrl-C; it goes on where it was, and counts in bench/SOAK.md. MINUTES=30 ends it by itself.
soak: setup
	$(BIN)/python bench/soak.py $(if $(MINUTES),--minutes $(MINUTES))

lock: setup
	$(BIN)/uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --group dev --upgrade pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .bench
