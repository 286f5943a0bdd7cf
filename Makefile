# Every command a developer needs. CI runs the same ones (.ci/run).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PROTOS := $(sort $(wildcard proto/signalpost/v1/*.proto))
# A program in each further language that the contract is compiled for.
GO_CLIENT   := tests/languages/go
TS_CLIENT   := tests/languages/typescript
JAVA_CLIENT := tests/languages/java
CLIENTS     := $(GO_CLIENT)/build/publish $(TS_CLIENT)/build/.compiled $(JAVA_CLIENT)/target/.compiled
# Without its compiled modules, each of the many processes of a test run compiles the service anew.
unexport PYTHONDONTWRITEBYTECODE
# More arguments for the command behind a target: make test ARGS="-k publish"
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup run demo test check fmt proto clients lock bench bench-compare bench-backlog \
	bench-isolation clean \
	check-toolchains check-python check-contract check-generated check-breaking

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r name text; do printf '  %-14s %s\n' "$$name" "$$text"; done

setup: $(STAMP) ## Install everything into .venv (does nothing if nothing changed)
	@:

run: setup ## Start a server and a receiver, and watch events arrive (ARGS=--once to stop by itself)
	@$(BIN)/signalpost demo $(ARGS)

demo: run ## The same as run

test: setup ## Run all tests in parallel (ARGS="-k name" for some)
	@$(BIN)/pytest -n auto --dist worksteal $(ARGS)

check: setup check-python check-contract check-generated check-breaking ## Check format, lint, types, layers and the contract

fmt: setup ## Format Python and the contract, mend what lint can mend
	@$(BIN)/ruff format --quiet
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/buf format --write

proto: setup ## Generate src/signalpost/v1 from proto/
	@rm -f src/signalpost/v1/*_pb2*
	@$(call generate,src)

clients: check-toolchains $(CLIENTS) ## Generate and compile clients in Go, TypeScript and Java, under gen/
	@:

lock: ## Resolve requirements.txt anew (ARGS=--upgrade for newer versions)
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/pip" install --quiet --disable-pip-version-check uv && \
	"$$tmp/bin/uv" pip compile pyproject.toml --extra server --group dev --generate-hashes \
		--universal --python-version 3.11 --no-header --quiet $(ARGS) -o requirements.txt

bench: setup ## Measure throughput, latency and CPU (about 2 minutes; only ratios within one run count)
	@$(BIN)/python -m tests.bench $(ARGS)

bench-compare: setup ## Measure this tree and another revision by turns (BASE=revision)
	@$(BIN)/python -m tests.bench.compare $(or $(BASE),$(error Name a revision: make bench-compare BASE=main)) $(ARGS)

bench-backlog: setup ## Measure with a million deliveries waiting, against few (about 4 minutes)
	@$(BIN)/python -m tests.bench.backlog $(ARGS)

bench-isolation: setup ## Measure healthy endpoints beside dead ones, and beside a loud tenant (about 8 minutes)
	@$(BIN)/python -m tests.bench.isolation $(ARGS)

clean: ## Remove caches and build results; data, keys and .venv stay
	@rm -rf build dist gen $(GO_CLIENT)/build $(TS_CLIENT)/build $(JAVA_CLIENT)/target
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
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

# $(call want,CONDITION,WHAT)
want = { $(1); } >/dev/null 2>&1 || { echo 'The clients need $(2).' >&2; exit 1; }

check-toolchains:
	@$(call want,cd $(GO_CLIENT) && printf 'go1.26\n%s\n' "$$(go env GOVERSION)" | sort -VC,Go 1.26 or newer)
	@$(call want,npm --version && node -e 'process.exit(+(parseInt(process.versions.node) < 20))',Node.js 20 or newer and npm)
	@$(call want,command -v mvn && javac --release 17 -version,a JDK 17 or newer and Maven)

$(TS_CLIENT)/node_modules/.installed: $(TS_CLIENT)/package-lock.json $(TS_CLIENT)/package.json
	@npm --prefix $(TS_CLIENT) ci --silent
	@touch $@

# Maven does not know that these files are programs.
$(JAVA_CLIENT)/target/tools/.installed: $(JAVA_CLIENT)/pom.xml
	@mvn -q -B -Dstyle.color=never -f $(JAVA_CLIENT)/pom.xml dependency:copy@tools
	@chmod +x $(JAVA_CLIENT)/target/tools/protoc*
	@touch $@

# The plugins of Go run in a module that wants the generated one to be there. The
# types of google.rpc are in packages for Go and Java, but not for TypeScript.
gen/.generated: $(PROTOS) proto/buf.gen.yaml $(GO_CLIENT)/go.mod $(STAMP) \
	$(TS_CLIENT)/node_modules/.installed $(JAVA_CLIENT)/target/tools/.installed
	@rm -rf gen && mkdir -p gen/go gen/java gen/typescript
	@printf 'module signalpost\n\ngo 1.26\n' >gen/go/go.mod
	@echo '{"type": "module"}' >gen/typescript/package.json
	@ln -s ../../$(TS_CLIENT)/node_modules gen/typescript/node_modules
	@$(BIN)/buf generate --template proto/buf.gen.yaml
	@$(BIN)/python -m grpc_tools.protoc \
		-I"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
		--plugin=$(CURDIR)/$(TS_CLIENT)/node_modules/.bin/protoc-gen-es \
		--es_out=target=ts,import_extension=js:gen/typescript google/rpc/error_details.proto
	@touch $@

$(GO_CLIENT)/build/publish: gen/.generated $(GO_CLIENT)/main.go $(GO_CLIENT)/go.sum
	@cd $(GO_CLIENT) && go vet ./... signalpost/v1 && go build -buildvcs=false -o build/publish .

$(TS_CLIENT)/build/.compiled: gen/.generated $(TS_CLIENT)/publish.ts $(TS_CLIENT)/tsconfig.json
	@$(TS_CLIENT)/node_modules/.bin/tsc -p $(TS_CLIENT)
	@touch $@

$(JAVA_CLIENT)/target/.compiled: gen/.generated $(JAVA_CLIENT)/src/main/java/Publish.java
	@mvn -q -B -Dstyle.color=never -f $(JAVA_CLIENT)/pom.xml process-classes
	@touch $@

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
