# Three commands carry the project: install, demo, test. Everything they need is installed by the first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
APT_PACKAGES := python3-venv redis-server chromium postgresql curl git fonts-dejavu-core

.PHONY: install demo test faults check format lock clean

install: $(VENV)/installed

# The system packages are for the tests and for a private Redis; without root they are left to the user.
$(VENV)/installed: requirements.lock pyproject.toml
	@if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then ./deploy/install-system-packages.sh $(APT_PACKAGES); fi
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: install
	$(BIN)/secateur demo

# In two halves side by side, one a core: the engine's, whose output comes at the end, and everything else.
ENGINE_LOG := $(VENV)/tests-of-search.log

test: install
	@$(BIN)/python -m pytest tests/search > $(ENGINE_LOG) 2>&1 & engine=$$!; \
	$(BIN)/python -m pytest tests --ignore=tests/search; rest=$$?; \
	wait $$engine; engine=$$?; cat $(ENGINE_LOG); exit $$((engine | rest))

# The promises of the service under kills and stops, each with its figure; `python -m tests.faults --help` for parts of it.
faults: install
	$(BIN)/python -m tests.faults

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Needs uv; the lock holds hashes for every platform and names no registry.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --no-emit-index-url -o requirements.lock

clean:
	rm -rf $(VENV) out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
