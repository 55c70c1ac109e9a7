# What a developer runs. Needs Python >= 3.11, Node >= 20 with npm, git and make; everything else is installed below this
# folder (as root in a folder closed to others, Postgres and its data go to /var/lib/clearfloor).
#
#   make up      the embedded Supabase, a demo organization and the backend
#   make down    stop them; the data stays
#   make clean   stop them and remove their data
#   make status  what runs
#   make test    every check and every test
#   make check   the checks that need no database
#   make types   write frontend/database.types.ts anew, after a migration was added or changed
#   make demo    a guided tour against what `make up` started
#   make bench   measure the gateway against its peers (10 minutes) and write docs/performance.md; needs wrk and nginx
#   make bench-growth   measure it with up to 10 million decisions in the record (35 GB, an hour)
#   make bench-quality  measure the prediction of quality (10 minutes) and write docs/quality.md
#   make lock    write the lock files anew
SHELL := /bin/sh
BIN := .venv/bin
NODE_BIN := node_modules/.bin
MIGRATIONS := $(wildcard supabase/migrations/*.sql)
.DEFAULT_GOAL := help
.PHONY: help install up down clean status demo check types test bench bench-growth bench-quality lock

help:
	@sed -n 's/^#   //p' Makefile

# Quick when the lock files are those of the last installation.
install:
	@./.ci/install

up: install
	@$(BIN)/python -m backend.cli up

down clean:
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m backend.cli $@; else echo 'Nothing is installed, so nothing runs.'; fi

status demo: install
	@$(BIN)/python -m backend.cli $@

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/squawk --assume-in-transaction --pg-version 17 --include=require-table-schema $(MIGRATIONS)
	$(NODE_BIN)/tsc --project frontend --noEmit
	$(NODE_BIN)/prettier --check --log-level warn frontend

types: install
	$(BIN)/python -m backend.stack.database_types

test: check
	$(BIN)/python -m pytest

bench:
	@./.ci/install bench
	@$(BIN)/python -m bench.performance --write

bench-growth:
	@./.ci/install bench
	@$(BIN)/python -m bench.performance.growth --write

bench-quality:
	@./.ci/install bench
	@$(BIN)/python -m bench.quality --write
	@$(BIN)/python -m bench.quality --learning --write

# Needs `uv`. The runtime lock is what an operator installs, the development lock is what `make` installs,
# the bench's is what `make bench` adds.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --output-file requirements/runtime.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --extra stack --extra prices --extra catalogue --extra policies --extra training --group dev \
		--output-file requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--group bench --constraint requirements/dev.txt --output-file requirements/bench.txt
	npm install --package-lock-only
