# Every target is self-contained: the first one that needs it makes the environment from the hashed lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOMS := common api-gateway user-service portfolio-service smallcase-service trade-executor \
         notification-service analytics-service market-data-service kite-simulator
PACKAGES := $(wildcard $(foreach room,$(filter-out common,$(ROOMS)),$(room)/$(subst -,_,$(room)))) scripts
SCANNED := common/common $(PACKAGES)
PROJECTS := $(wildcard $(addsuffix /pyproject.toml,$(ROOMS)))

.DEFAULT_GOAL := help
.PHONY: help setup run demo test faults crash-points planted baselines lint types fmt check chaos security lock clean images

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  \1\t\2/' | expand -t 18

$(STAMP): requirements.lock $(PROJECTS) pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, found " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation $(addprefix -e ./,$(ROOMS))
	touch $@

setup: $(STAMP) ## make the Python environment (every other target does it when needed)

EXPORT := $(BIN)/uv export --quiet --frozen --no-emit-workspace --no-header --no-annotate --format requirements-txt
lock: $(STAMP) ## pin all dependencies again (hashes, no addresses); UPGRADE= keeps what is pinned
	$(BIN)/uv lock --quiet $(if $(filter undefined,$(origin UPGRADE)),--upgrade,$(UPGRADE))
	$(EXPORT) --no-emit-project -o requirements.lock >/dev/null
	$(EXPORT) --only-group build -o common/build-requirements.lock >/dev/null
	$(EXPORT) --all-packages --no-dev -o scripts/requirements.lock >/dev/null
	for room in $(filter-out common,$(ROOMS)); do \
	  $(EXPORT) --no-dev --package saras-$$room -o $$room/requirements.lock >/dev/null || exit 1; done

run: $(STAMP) ## start the whole platform on this machine (Ctrl-C stops it)
	$(BIN)/python -m scripts.run_platform

demo: $(STAMP) ## 50 users trade through the gateway, then the books are checked
	$(BIN)/python -m scripts.demo

test: $(STAMP) ## all tests, in parallel
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(STAMP) ## linter, formatter, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml -ll $(SCANNED)

ORDERS ?= 1000
SEEDS ?= 4
FIRST ?= 1
faults: $(STAMP) ## seeded schedules of kills, lost answers and outages in virtual time (ORDERS, SEEDS, FIRST)
	$(BIN)/python -m tests.faults --orders $(ORDERS) --seeds $(SEEDS) --first $(FIRST)

crash-points: $(STAMP) ## kill a process at every commit, broker byte, publish and ack of every scenario
	$(BIN)/python -m tests.faults.crash

planted: $(STAMP) ## known mistakes put in on purpose: which are caught, by which invariant, after how many seeds
	$(BIN)/python -m tests.faults.planted

baselines: $(STAMP) ## what other systems' sending policies lose and double on the same seeds
	$(BIN)/python -m tests.faults.baselines

types: $(STAMP) ## static types, one run per package
	$(BIN)/mypy common/common
	for package in $(PACKAGES); do $(BIN)/mypy $$package || exit 1; done

fmt: $(STAMP) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test ## everything continuous integration runs

chaos: $(STAMP) ## kill, freeze and cut everything for MINUTES=10 under load, then check all books (SEED=1)
	$(BIN)/python -W ignore -m tests.chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) $(CHAOS)

security: $(STAMP) ## scan for weak code and secrets, look dependencies up in a database of known holes
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml -ll $(SCANNED)
	$(BIN)/python -m pytest -q tests/security/test_security_repository.py
	$(BIN)/python -m scripts.dependency_audit

VERSION ?= latest
images: ## build the image of every room, and the operators'
	for room in $(filter-out common,$(ROOMS)); do \
	  docker build --quiet --build-context saras-common=common -t saras/$$room:$(VERSION) $$room || exit 1; done
	docker build --quiet -t saras/operator:$(VERSION) -f infra/operator.Dockerfile .
	docker image ls --filter reference='saras/*:$(VERSION)'

clean: ## remove the environment and caches (not the platform's data)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
