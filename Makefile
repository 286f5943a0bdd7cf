# Every command a developer needs. CI runs the same ones (.ci/run).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PROTOS := $(sort $(wildcard proto/signalpost/v1/*.proto))
# More arguments for the command behind a target: make test ARGS="-k publish"
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup run demo test check fmt proto lock bench clean \
	check-python check-contract check-generated check-breaking

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '  %-8s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## Install everything into .venv (does nothing if nothing changed)
	@:

run: setup ## Start a server and a receiver, and watch events arrive (ARGS=--once to stop by itself)
	@$(BIN)/signalpost demo $(ARGS)

demo: run ## The same as run

test: setup ## Run all tests in parallel (ARGS="-k name" for some)
	@$(BIN)/pytest -n auto $(ARGS)

check: setup check-python check-contract check-generated check-breaking ## Check format, lint, types, layers and the contract

fmt: setup ## Format Python and the contract, mend what lint can mend
	@$(BIN)/ruff format --quiet
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/buf format --write

proto: setup ## Generate src/signalpost/v1 from proto/
	@rm -f src/signalpost/v1/*_pb2*
	@$(call generate,src)

lock: ## Resolve requirements.txt anew (ARGS=--upgrade for newer versions)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/pip" install --quiet --disable-pip-version-check uv && \
	"$$tmp/bin/uv" pip compile pyproject.toml --extra server --group dev --generate-hashes \
		--universal --python-version 3.11 --no-header --quiet $(ARGS) -o requirements.txt

bench: ## Measure throughput and latency
	@echo 'This version has no benchmark yet.' >&2; exit 1

clean: ## Remove caches and build results; data, keys and .venv stay
	@rm -rf build dist gen .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find src tests -type d -name __pycache__ -prune -exec rm -rf {} +

# The environment. Packages are pinned with their hashes; the stamp is only
# written once all of it succeeded, so an interrupted setup starts over.
$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo 'Signalpost needs Python 3.11 or newer; there is no $(PYTHON).' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Signalpost needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -c \
			'import platform; print(platform.python_version())')." >&2; \
		echo 'Name another one: make setup PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'This Python cannot make virtual environments: its venv module is incomplete.' >&2; \
		echo 'On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || { \
		echo 'Installing into $(VENV) (once, about a minute) ...'; \
		$(PYTHON) -m venv --clear $(VENV); }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes -r requirements.txt || { \
		echo 'Setup failed: the packages of requirements.txt could not be installed (see above).' >&2; \
		echo 'Mend that and run "make setup" again; it goes on where it stopped.' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--no-deps --no-build-isolation -e . || { \
		echo 'Setup failed: Signalpost itself could not be installed (see above).' >&2; exit 1; }
	@touch $@

# $(call generate,DIRECTORY): the Python code of the contract, with type stubs
# for grpc and grpc.aio.
define generate
$(BIN)/python -m grpc_tools.protoc -Iproto \
	--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	--python_out=$(1) --mypy_out=quiet:$(1) $(PROTOS) && \
$(BIN)/python -m grpc_tools.protoc -Iproto \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	--grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) $(filter %_service.proto,$(PROTOS))
endef

check-python: setup
	@$(BIN)/ruff format --check --quiet || { \
		echo 'Some Python files are not formatted: run "make fmt".' >&2; exit 1; }
	@$(BIN)/ruff check --quiet
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

check-contract: setup
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code || { \
		echo 'The contract is not formatted: run "make fmt".' >&2; exit 1; }

check-generated: setup
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	{ $(call generate,"$$tmp"); } && \
	diff -rq -x __init__.py -x __pycache__ "$$tmp/signalpost/v1" src/signalpost/v1 || { \
		echo 'src/signalpost/v1 is not what proto/ generates: run "make proto".' >&2; exit 1; }

# Compares with the newest release this commit descends from.
check-breaking: setup
	@tag=$$(git -c versionsort.suffix=- tag --list 'v*' --merged HEAD --sort=-version:refname \
		2>/dev/null | head -n 1); \
	if [ -z "$$tag" ]; then echo 'buf breaking: no release tag yet: nothing to compare'; exit 0; fi; \
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	git archive "$$tag" buf.yaml proto | tar -x -C "$$tmp" && \
	$(BIN)/buf breaking --against "$$tmp" || { \
		echo "The contract breaks clients of $$tag (see above)." >&2; exit 1; }
