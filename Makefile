# Every command of this repository. Each makes or refreshes .venv by itself; `make help` lists them.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
RUN_STAMP := $(VENV)/.stamp-run
TEST_STAMP := $(VENV)/.stamp-test

VAR ?= var
PORT ?= 8000
ARGS ?=

# Settings a real installation would have, with secrets made for one check and thrown away.
PRODUCTION = KMS_MODE=production \
  KMS_SECRET_KEY=$$(head -c 48 /dev/urandom | base64 -w0) \
  KMS_ROW_KEY=$$(head -c 48 /dev/urandom | base64 -w0) \
  KMS_PORTAL_ROOT=$$($(BIN)/python -c "from accounts.keyring import *; print(public_half(new_key()).hex())") \
  KMS_STATE=$(VENV) KMS_ALLOWED_HOSTS=kms.example.org KMS_PORTAL_URL=https://kms.example.org \
  KMS_DATABASE_URL=postgres://kms@db.example.org/kms?sslmode=verify-full KMS_REDIS_URL=rediss://:made-up-for-one-check@redis.example.org:6379/0 \
  KMS_VAULT_ADDR=https://vault.example.org:8200 KMS_VAULT_PUBLIC_ADDR=https://vault.example.org:8200 \
  KMS_EMAIL_URL=smtp+tls://mail.example.org:587

# Three at once on two cores, because much of it is waiting; a file's tests stay together, because they share a running portal.
PARALLEL := -n 3 --dist loadfile
# What tests need beside Python, as Debian's packages; without a browser, fewer.
PROGRAMS := chromium libatomic1 postgresql openssl nginx

.NOTPARALLEL: # prerequisites in their order: what is missing is said first

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: $(RUN_STAMP) ## Start everything with demo data (PORT=8000 VAR=var); Ctrl-C stops it
	@KMS_MODE=demo exec $(BIN)/python manage.py demo --var "$(VAR)" --port "$(PORT)"

.PHONY: test
test: programs runtime ## Run every test (ARGS="-k name" to choose)
ifdef ARGS
	@$(BIN)/python -m pytest $(ARGS)
else
	@echo "On PostgreSQL:"
	@$(BIN)/python -m tests.on_postgres $(PARALLEL) -m postgres
	@echo "On SQLite:"
	@$(BIN)/python -m pytest $(PARALLEL) -m "not stack"
	@echo "The embedded stack, alone, because it is timed:"
	@$(BIN)/python -m pytest -m stack
endif

.PHONY: test-fast
test-fast: PROGRAMS := postgresql openssl
test-fast: programs $(TEST_STAMP) ## Run the tests that need neither the whole stack nor a browser
	@$(BIN)/python -m pytest $(PARALLEL) -m "not stack and not browser and not slow" $(ARGS)

.PHONY: attack
attack: PROGRAMS := postgresql openssl
attack: programs $(TEST_STAMP) ## Let each attacker at a live portal, one after the other; says who tried what and got what
	@$(BIN)/python -m pytest tests/security --attack $(ARGS)

.PHONY: programs
programs:
	@tests/programs.sh $(PROGRAMS)

.PHONY: check
check: $(TEST_STAMP) ## Format, lint, types, import rules, templates, settings, migrations
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@KMS_MODE=development $(BIN)/mypy
	@KMS_MODE=development MYPYPATH=bench $(BIN)/mypy --explicit-package-bases --follow-imports silent bench/*.py
	@$(BIN)/lint-imports
	@$(BIN)/djlint templates --lint --quiet
	@$(PRODUCTION) $(BIN)/python manage.py check --deploy --fail-level WARNING
	@KMS_MODE=development KMS_DATABASE_URL=sqlite://:memory: $(BIN)/python manage.py makemigrations --check --dry-run

.PHONY: format
format: $(TEST_STAMP) ## Format the code and repair what can be repaired
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: runtime
runtime: $(TEST_STAMP) ## Build the container's wheel into dist/ and try it without Django
	@rm -rf dist build/runtime
	@$(BIN)/python -m hatchling build -t wheel -d dist >/dev/null
	@mkdir -p build
	@$(BIN)/python -m venv build/runtime
	@sed -e 's/ *\\$$//' -e '/^ *--hash/d' requirements.txt >build/constraints.txt
	@build/runtime/bin/python -m pip --disable-pip-version-check install -qq -c build/constraints.txt dist/*.whl
	@cd build && runtime/bin/python -I ../tests/wheel/check_wheel.py
	@ls dist/*.whl

.PHONY: rooms
rooms: $(VENV)/bin/python ## Measure the house: folders, who imports whom, circles (ARGS=PATH of another checkout)
	@$(BIN)/python docs/rooms.py $(ARGS)

.PHONY: lock
lock: $(VENV)/bin/python ## Pin requirements*.in into requirements*.txt (UPGRADE=--upgrade for newer ones)
	@test -x build/lock/bin/uv || { $(BIN)/python -m venv build/lock && build/lock/bin/pip install -qq uv; }
	@for name in requirements requirements-embedded requirements-test; do \
	  UV_CUSTOM_COMPILE_COMMAND="make lock" build/lock/bin/uv pip compile --quiet --generate-hashes \
	    --python-version 3.11 $(UPGRADE) $$name.in --output-file $$name.txt; \
	done

.PHONY: venv
venv: $(TEST_STAMP) ## Make or refresh .venv

.PHONY: clean
clean: ## Remove what was built (not .venv, not var/)
	@rm -rf dist build .mypy_cache .ruff_cache .pytest_cache test-results

$(VENV)/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 is needed: install the package python3.11, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "Python's venv is needed: install the package python3.11-venv and start again." >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)

$(RUN_STAMP): requirements.txt requirements-embedded.txt | $(VENV)/bin/python
	@echo "Installing packages ..."
	@$(PIP) --require-hashes -r requirements.txt -r requirements-embedded.txt || { \
	  echo "The packages could not be installed: see above; is there a network and space on the disk?" >&2; exit 1; }
	@touch $@

$(TEST_STAMP): requirements-test.txt $(RUN_STAMP)
	@echo "Installing packages for tests ..."
	@$(PIP) --require-hashes -r requirements-test.txt || { \
	  echo "The packages could not be installed: see above; is there a network and space on the disk?" >&2; exit 1; }
	@touch $@
