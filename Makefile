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
.PHONY: help setup run demo test faults crash-points planted baselines bench bench-compare lint types fmt check chaos security lock clean images up down compose-trial manifests manifests-check monitoring-check image-scan \
        image-push deploy rollback smoke

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
	$(BIN)/python -m pytest -q -n 3 --dist loadfile

lint: $(STAMP) ## linter, formatter, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml -ll $(SCANNED)

ORDERS ?= 1000
SEEDS ?= 4
FIRST ?= 1
faults: $(STAMP) ## seeded schedules of kills, lost answers and outages in virtual time (ORDERS, SEEDS, FIRST, OUTPUT)
	$(BIN)/python -m tests.faults --orders $(ORDERS) --seeds $(SEEDS) --first $(FIRST)$(if $(OUTPUT), --output $(OUTPUT))

crash-points: $(STAMP) ## kill a process at every commit, broker byte, publish and ack of every scenario
	$(BIN)/python -m tests.faults.crash

planted: $(STAMP) ## known mistakes put in on purpose: which are caught, by which invariant, after how many seeds
	$(BIN)/python -m tests.faults.planted

baselines: $(STAMP) ## what other systems' sending policies lose and double on the same seeds
	$(BIN)/python -m tests.faults.baselines

types: $(STAMP) ## static types, one run per package
	$(BIN)/mypy common/common
	for package in $(PACKAGES); do $(BIN)/mypy $$package || exit 1; done
	$(BIN)/mypy bench

fmt: $(STAMP) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint types test ## everything continuous integration runs

bench: $(STAMP) ## speed, latency, drain, scale and memory on real servers, each beside its bar (ONLY=accept,reach, OUTPUT=)
	$(BIN)/python -W ignore -m bench$(if $(ONLY), --only $(ONLY))$(if $(OUTPUT), --output $(OUTPUT))

bench-compare: $(STAMP) ## the same benchmarks at another revision and here, in turn, as ratios (BASE=<git rev>, ONLY=)
	$(BIN)/python -W ignore -m bench.compare $(BASE)$(if $(ONLY), --only $(ONLY))

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

up: images ## start the platform in containers (docker compose) and wait until it is healthy
	docker compose up --wait --no-build

down: ## stop the platform in containers; its data stays
	docker compose --profile monitoring --profile test down

compose-trial: $(STAMP) images ## kill every container in turn while orders flow, then check the books (deletes the data in volumes)
	docker build --quiet -t saras/tests:$(VERSION) -f infra/tests.Dockerfile .
	$(BIN)/python -m tests.compose.kill_each

# Rendering and checking what goes to a cluster needs tools of 680 MB, which nobody else needs.
TOOLS := .venv-manifests
$(TOOLS)/.installed: k8s/requirements.lock
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r k8s/requirements.lock
	touch $@

manifests: $(TOOLS)/.installed ## render k8s/base and k8s/overlays from the chart
	$(TOOLS)/bin/python -m scripts.render_manifests

manifests-check: $(STAMP) $(TOOLS)/.installed ## schemas of two Kubernetes versions, linter, own rules, chart and kustomize alike
	SARAS_MANIFEST_TOOLS=required $(BIN)/python -m pytest -q tests/manifests

monitoring-check: $(STAMP) ## alert rules, their unit tests and configurations by promtool and amtool (Debian: prometheus, prometheus-alertmanager)
	SARAS_MONITORING_TOOLS=required $(BIN)/python -m pytest -q tests/monitoring

ENVIRONMENT ?= staging
NAMESPACE ?= $(if $(filter production,$(ENVIRONMENT)),saras,saras-$(ENVIRONMENT))
REGISTRY ?= ghcr.io/saras-platform
image-scan: ## look the images' packages up in a database of known holes (needs trivy; VERSION)
	for room in $(filter-out common,$(ROOMS)); do \
	  trivy image --quiet --exit-code 1 --severity HIGH,CRITICAL --ignore-unfixed saras/$$room:$(VERSION) || exit 1; done

image-push: ## give the images to REGISTRY (VERSION)
	for room in $(filter-out common,$(ROOMS)) operator; do \
	  docker tag saras/$$room:$(VERSION) $(REGISTRY)/saras/$$room:$(VERSION) || exit 1; \
	  docker push --quiet $(REGISTRY)/saras/$$room:$(VERSION) || exit 1; done

deploy: ## bring VERSION to ENVIRONMENT, back to what ran before when it does not get ready (needs Helm 4 and a cluster)
	helm upgrade --install saras k8s/chart --namespace $(NAMESPACE) --values k8s/environments/$(ENVIRONMENT).yaml \
	  --set image.tag=$(VERSION) --set image.registry=$(REGISTRY) --rollback-on-failure --wait --timeout 20m --history-max 10 $(HELM)

rollback: ## back to the release before in ENVIRONMENT (needs helm and a cluster)
	helm rollback saras --namespace $(NAMESPACE) --wait --timeout 20m

URL ?= http://127.0.0.1:8000
smoke: ## the platform at URL says that it is ready
	curl --fail --silent --show-error --retry 20 --retry-delay 3 --retry-all-errors $(URL)/health/ready

clean: ## remove the environment and caches (not the platform's data)
	rm -rf $(VENV) $(TOOLS) .pytest_cache .mypy_cache .ruff_cache .hypothesis
