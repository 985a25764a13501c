# npu-proxy: `make` shows what there is. Needs python3 (3.11 or newer) with its venv module, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tests that run real models use these; both are small.
TEST_MODELS := smollm2:135m all-minilm
# Another lock or another pyproject makes another stamp, and only then is anything installed.
KEY := $(shell cat requirements.lock pyproject.toml | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16)
STAMP := $(VENV)/.installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help venv serve test lint bench fairness faults soak lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP) ## make .venv with everything of requirements.lock

serve: $(STAMP) ## start everything here; Ctrl-C ends it
	@exec $(BIN)/npu-proxy serve

test: $(STAMP) ## run the tests (fetches two small models first)
	$(BIN)/npu-proxy pull $(TEST_MODELS)
	$(BIN)/python -m pytest

lint: $(STAMP) ## ruff, mypy --strict, the import contract
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## measure this machine (see bench/)
	$(BIN)/python -m bench

fairness: $(STAMP) ## prove and measure the fair order (full counts), draw docs/fairness.png
	@$(BIN)/python -m bench.fairness --full; proved=$$?; \
		$(BIN)/python -m bench.flood --plot docs/fairness.png && exit $$proved

faults: $(STAMP) ## kill, stop and starve everything, at full count (an hour or more)
	$(BIN)/npu-proxy pull $(TEST_MODELS)
	$(BIN)/python -m pytest tests/faults --full -o faulthandler_timeout=0

soak: $(STAMP) ## an hour of everything at once: errors, memory, keys (bench/soak.py)
	@$(BIN)/python -m bench.soak

lock: ## choose the newest allowed versions and write requirements.lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet --upgrade uv
	$(VENV)-lock/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --upgrade \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock
	rm -rf $(VENV)-lock

clean: ## remove the virtual environment and caches (never models or data)
	rm -rf $(VENV) $(VENV)-lock build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: Python 3.11 or newer is needed; $$($(PYTHON) --version) was found (try: make PYTHON=python3.12)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: Python's venv module is missing (on Debian: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		--config-settings editable_mode=compat -e .
	@rm -f $(VENV)/.installed-*
	@touch $@
