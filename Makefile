# Every target sets up what it needs: a virtual environment in .venv, installed again only when pyproject.toml changes.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
WORKERS ?= 2

.PHONY: run help test unit soak kurrentdb lint format services screens bench clean
.DEFAULT_GOAL := run

run: .venv/installed ## Start the shop: a database, all processes, a sample of real games (the default)
	@exec $(BIN)/ludoteca run

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: services lint ## Run every check, and all tests but the longest
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

# One process: with -n, the one that hands out the tests would start a PostgreSQL for the others.
unit: .venv/installed-dev ## Run the tests of domain, commands and log that need no server: seconds
	$(BIN)/pytest -m "not server and not soak" tests/domain tests/eventstore tests/commands

soak: services lint ## Run every check and every test, the long ones too
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "soak or not soak"

kurrentdb: .venv/installed-dev ## Run the suites of purchases, wallets, carts and of the API on a log in KurrentDB
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "soak or not soak" --kurrentdb -k "not rabbitmq" tests/api \
		$(addprefix tests/flow/test_,$(addsuffix .py,buying wallets carts refunds money_back payment_races receipts \
		crashes closing_accounts leaving deadlines overdue_orders hot_item own_writes two_processes stale_states loads))

lint: .venv/installed-dev ## Check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-dev ## Format the code, and mend what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# As far as they can be had: the tests say what they miss.
services: .venv/installed-dev ## Find, start or install what the tests need: RabbitMQ, Elasticsearch, Chromium, …
	@$(BIN)/python deploy/services.py up || true

screens: services ## Take the pictures of all pages in docs/screens: five minutes
	LUDOTECA_REQUIRE_SERVICES=1 $(BIN)/pytest tests/browser/screens.py

# Some of it, for instance: make bench ONLY=http
bench: .venv/installed-dev ## Measure log, read models and API beside their peers: an hour
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

clean: ## Remove .venv and whatever was built or cached
	rm -rf .venv build dist *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { \
		echo "Ludoteca needs Python 3.11 or later; found: $$(python3 --version 2>&1). To name another: make PYTHON=..."; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments (Debian, Ubuntu: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	@echo "Installing Ludoteca into .venv: a minute or two, the first time only."
	$(PIP_INSTALL) --editable .
	@touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ .venv/installed
