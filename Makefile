# janela. `make help` is the map. Needs git, make and one Python of 3.11 or newer; all else comes by requirements.lock.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
.SUFFIXES:

VENV    := .venv
BIN     := $(VENV)/bin
LOCKED  := $(VENV)/.locked
STAMP   := $(VENV)/.set-up
PYTHONS := python3.13 python3.12 python3.11 python3 python
MINUTES ?= 10
SEED    ?= 1
RESULTS ?= .janela/chaos
OUT     ?= docs/measured
QUIX    := .janela/quix
TOOLS   := .janela/tools
SITE    := .janela/site
HISTORIES ?= 1000
PROOF   ?= 1
BEFALLS := tests/sim/test_simulation.py::test_whatever_befalls_the_workers_the_model_is_obeyed
HOURS   ?= 1
SECONDS ?= 60
TEST_TOOLS ?= required
SHORT   := not soak and not bench and not mutants and not heavy and (not chaos or short)
AT_ONCE := --numprocesses 4 --dist loadfile --no-loadscope-reorder

# The tests start hundreds of workers: what was compiled for the first is there for the others, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

# A name on the PATH may be a shim for a version that is not there, and Debian's python3 may lack venv: try, don't look.
RUNS_VENV := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in $(PYTHONS); do \
    "$$python" -c '$(RUNS_VENV)' >/dev/null 2>&1 && echo "$$python" && break; done)

.PHONY: help run setup environment test compiled check test-unit test-sim test-rest test-mutants test-chaos proof soak fuzz bench \
    bench-growth bench-peers docs site fmt check-deploy audit sbom lock clean

help:  ## This list
	@sed -n 's/^\([a-z-]*\):[^#]*## *\(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	while IFS='|' read -r target words; do printf '  make %-12s %s\n' "$$target" "$$words"; done

# ------------------------------------------------------------------------------------------------- the two that matter

run: setup  ## A real Kafka, a worker and live traffic on this machine; options in ARGS="--seconds 60"
	@$(BIN)/janela up $(ARGS)

test: setup  ## make check, then the short tests, four at a time (most of them wait), also with kills; more for pytest in ARGS="-k ..."
	@$(MAKE) --jobs 2 check compiled
	@$(BIN)/python -m pytest -m "$(SHORT)" $(AT_ONCE) $(ARGS)

# else each of the four would compile them all, at the same time
compiled: setup
	@$(BIN)/python -m pytest -m "$(SHORT)" --collect-only --quiet --quiet >$(VENV)/collected || { cat $(VENV)/collected; exit 1; }

# ----------------------------------------------------------------------------------------------------------- the parts

setup: $(STAMP)  ## Make .venv from requirements.lock, every hash checked; done anew only when the lock changes

check: setup  ## What needs no test run: lint, format, types, the direction of imports
	@echo "lint";    $(BIN)/ruff check
	@echo "format";  $(BIN)/ruff format --check
	@echo "types";   $(BIN)/mypy
	@echo "imports"; $(BIN)/lint-imports --no-cache

test-unit: setup  ## The tests that need no broker
	@$(BIN)/python -m pytest -m "$(SHORT)" tests/tidy tests/unit tests/property tests/sim $(ARGS)

test-sim: setup  ## Histories in a simulated cluster: SEED=1 HISTORIES=1000
	@SEED=$(SEED) HISTORIES=$(HISTORIES) $(BIN)/python -m pytest $(BEFALLS) --timeout 0 $(ARGS)

test-rest: setup  ## What make test leaves out for its length and CI makes next: heavy tests, and the mutants that are quickly noticed
	@$(BIN)/python -m pytest -m "heavy or (mutants and not long)" $(AT_ONCE) $(ARGS)

test-mutants: setup  ## Our code with one guard taken out at a time: the tests that must notice, those on a broker too
	@$(BIN)/python -m pytest tests/mutants tests/sim -m mutants --timeout 0 $(ARGS)

test-chaos: setup  ## Every fault, for MINUTES=10 a trial, from SEED=; MINUTES=0 is short; on a cluster of yours with CLUSTER=janela.toml; the record goes to RESULTS=.janela/chaos
	@MINUTES=$(MINUTES) RESULTS=$(RESULTS) $(if $(filter command line environment,$(origin SEED)),SEED=$(SEED)) \
	    $(BIN)/python -m pytest tests/chaos tests -m chaos --timeout 0 $(if $(filter 0,$(MINUTES)),$(AT_ONCE)) $(ARGS)

proof: HISTORIES = 20000
proof: setup  ## All of it, three at a time, in about an hour: every fault as often as docs/proof.md says, which it writes
	@rm -rf $(RESULTS)
	@-PROOF=$(PROOF) SEED=$(SEED) HISTORIES=$(HISTORIES) RESULTS=$(RESULTS) $(BIN)/python -m pytest \
	    $(BEFALLS) tests/chaos --numprocesses 3 --dist worksteal --timeout 0 --verbose $(ARGS)
	@$(BIN)/python -m tests.chaos.table $(RESULTS) docs/proof.md

soak: setup  ## Mild chaos at 2,000 events/s for HOURS=1: nothing lost, memory flat; the record goes to .janela/soak
	@HOURS=$(HOURS) $(BIN)/python -m pytest tests/soak -m soak --timeout 0 $(ARGS)

# atheris stays out of the environment: it has a wheel for one Python on one machine
fuzz: setup  ## Hostile records for the codec: SECONDS=60 guided by coverage, or RECORDS=10000000 by their numbers
ifdef RECORDS
	@TEST_FUZZ_RECORDS=$(RECORDS) $(BIN)/python -m pytest tests/unit/test_fuzz_codec.py --timeout 0 $(ARGS)
else
	@test -d $(VENV)/fuzz/atheris || $(INSTALL) --quiet --require-hashes --no-deps --only-binary :all: \
	    --target $(VENV)/fuzz -r tests/fuzz/atheris.lock 2>/dev/null || { echo "atheris has a wheel for Python 3.11 on\
 Linux x86-64 only, and this is $$($(BIN)/python -c 'import platform as p; print(p.python_version(), p.system(), p.machine())'):\
 make fuzz RECORDS=10000000 goes without" >&2; exit 1; }
	@PYTHONPATH=$(VENV)/fuzz $(BIN)/python -m tests.fuzz.guided $(SECONDS) .janela/fuzz
endif

bench: setup  ## Measure and print: throughput, latency, restore, memory
	@$(BIN)/python -m pytest -m bench --timeout 0 -s $(ARGS)

docs: setup  ## Write anew what is made from code and schemas: pages in docs/, the dashboard, Strimzi's topics and users
	@$(BIN)/python -m processor.ops.pages
	@$(BIN)/python -m deploy.generate

site: setup $(SITE)/.locked  ## The pages as a site with search and navigation, in .janela/site/html; fails for a link that leads nowhere
	@$(BIN)/python -m tests.site $(SITE)/pages
	@NO_MKDOCS_2_WARNING=1 $(SITE)/env/bin/mkdocs build --strict --quiet --clean
	@echo "$(SITE)/html/index.html"

$(SITE)/.locked: tests/site/site.lock | $(LOCKED)
	@echo "what makes the site, in an environment of its own"
	@rm -rf $(SITE)/env && $(BIN)/python -m venv $(SITE)/env
	@$(SITE)/env/bin/python -m pip install --disable-pip-version-check --no-input --quiet --require-hashes -r $<
	@touch $@

check-deploy: setup $(TOOLS)/.locked  ## deploy/ by the tools that are made for it; a missing one fails, or is named where TEST_TOOLS= lets it be
	@TEST_TOOLS=$(TEST_TOOLS) PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" $(BIN)/python -m pytest tests/deploy tests/unit/test_deploy.py tests/unit/test_alerts.py $(ARGS)

audit: $(TOOLS)/.locked  ## Every locked package against the published advisories; fails where one can't be looked up
	@$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

sbom: $(TOOLS)/.locked  ## What the image holds, as CycloneDX: dist/janela.cdx.json
	@mkdir -p dist
	@$(TOOLS)/bin/python -W ignore -m cyclonedx_py requirements deploy/docker/runtime.lock --pyproject pyproject.toml \
	    --output-reproducible --output-file dist/janela.cdx.json

# helm and actionlint are built where there is a Go, which takes some five minutes of CPU the first time. What can't be
# had leaves `failed` behind, and is asked for again the next time; what then wants it fails (TEST_TOOLS).
$(TOOLS)/.locked: tests/deploy/tools.lock tests/deploy/go.lock tests/deploy/strimzi/pom.xml | $(LOCKED)
	@echo "tools for deploy/, in an environment of their own"
	@rm -rf $(TOOLS) && $(BIN)/python -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --disable-pip-version-check --no-input --quiet --require-hashes -r $< \
	    || echo "some can't be had for this machine" | tee $(TOOLS)/failed >&2
	@command -v go >/dev/null || echo "no go: without it there is neither helm nor actionlint, unless they are on the PATH"
	@command -v go >/dev/null && while read -r module; do echo "go install $$module"; \
	    GOBIN="$(CURDIR)/$(TOOLS)/bin" go install "$$module" || echo "$$module can't be had" | tee -a $(TOOLS)/failed >&2; \
	done <tests/deploy/go.lock || true
	@command -v mvn >/dev/null || echo "no mvn: without it there are no types of Strimzi's"
	@! command -v mvn >/dev/null || mvn --quiet --batch-mode --file tests/deploy/strimzi/pom.xml dependency:build-classpath \
	    -Dmdep.outputFile="$(CURDIR)/$(TOOLS)/strimzi.classpath" || echo "Strimzi's types can't be had" | tee -a $(TOOLS)/failed >&2
	@test -e $(TOOLS)/failed || touch $@

bench-peers: setup $(QUIX)/.locked  ## The same job on other engines; the report goes to OUT=docs/measured; ARGS="--rates 2000,10000"
	@$(BIN)/python -m tests.bench.peers $(OUT) --quix $(QUIX)/bin/python $(ARGS)

bench-growth: setup  ## By open windows, partitions and workers; goes on where it was; to OUT=docs/measured; ARGS="--windows 10000000"
	@$(BIN)/python -m tests.bench.growth $(OUT) $(ARGS)

$(QUIX)/.locked: tests/bench/peers/quix.lock
	@echo "Quix Streams, in an environment of its own"
	@rm -rf $(QUIX) && $(BIN)/python -m venv $(QUIX)
	@$(QUIX)/bin/python -m pip install --disable-pip-version-check --no-input --quiet --require-hashes -r $<
	@touch $@

fmt: setup  ## Format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix --exit-zero --quiet && $(BIN)/ruff format

lock: setup  ## Lock the dependencies anew, with hashes; ARGS=--upgrade takes the newest
	@$(COMPILE) pyproject.toml --all-extras --group dev --output-file requirements.lock
	@$(COMPILE) pyproject.toml --constraints requirements.lock --output-file deploy/docker/runtime.lock
	@$(COMPILE) pyproject.toml --extra otel --constraints requirements.lock --output-file deploy/docker/traces.lock
	@$(COMPILE) --group pyproject.toml:build --constraints requirements.lock --output-file deploy/docker/build.lock
	@$(COMPILE) tests/bench/peers/quix.in --output-file tests/bench/peers/quix.lock
	@$(COMPILE) tests/deploy/tools.in --output-file tests/deploy/tools.lock
	@$(COMPILE) tests/site/site.in --output-file tests/site/site.lock

COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --no-config --quiet --universal \
    --python-version 3.11 --generate-hashes $(ARGS)

clean:  ## Take away what was made here: the environment, the caches, the embedded Kafka's logs
	@rm -rf $(VENV) .janela build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -------------------------------------------------------------------------------------------------------------- set-up

INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-input
NEEDED  := janela needs Python 3.11 or newer with its venv module

$(LOCKED): requirements.lock
	@git diff --no-index --quiet $< $(VENV)/$< 2>/dev/null || $(MAKE) environment
	@touch $@

# 1 an empty environment, with the lock's own pip: that of an older Python takes twice as long for what follows
# 2 exactly what the lock names, counted as it comes (the whole story is in set-up.log)
environment:
	@test -n "$(PYTHON)" || { echo "$(NEEDED): none of $(PYTHONS) is one" \
	    "(python3: $$(python3 --version 2>&1 | head -n 1)). Or say where it is: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c '$(RUNS_VENV)' 2>/dev/null || { echo "$(NEEDED): $(PYTHON) is not one" \
	    "($$("$(PYTHON)" --version 2>&1 | head -n 1))." >&2; exit 1; }
	@echo "1/3 $(VENV) from $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@sed -n '/^pip==/,/# via/p' requirements.lock >$(VENV)/pip.lock && $(INSTALL) --quiet --require-hashes -r $(VENV)/pip.lock
	@total=$$(grep -c '^[a-z].*==' requirements.lock); echo "2/3 $$total locked packages"; \
	{ $(INSTALL) --require-hashes -r requirements.lock 2>&1 || echo "pip-failed"; } | { \
	    seen=0; [ -t 1 ] && tell='\r\033[K    %s' || tell=''; \
	    while IFS= read -r line; do \
	        case "$$line" in \
	            Collecting*) seen=$$((seen + 1)); name=$${line#Collecting }; printf "$$tell" "$$seen/$$total $${name%% *}" ;; \
	            Installing*) printf "$$tell" "unpacking" ;; \
	            pip-failed) printf "$$tell" ""; tail -n 20 $(VENV)/set-up.log >&2; exit 1 ;; \
	        esac; printf '%s\n' "$$line" >>$(VENV)/set-up.log; \
	    done; printf "$$tell" ""; }
	@cp requirements.lock $(VENV)/

# 3 this checkout, as it stands
$(STAMP): $(LOCKED) pyproject.toml
	@echo "3/3 janela itself"
	@$(INSTALL) --quiet --no-build-isolation --no-deps --no-index --editable .
	@touch $@
