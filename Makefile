# All commands for newcomers. `make` alone lists them.

PYTHON ?= python3
RUN := .venv/bin/python
# With KARPENTER=1, the lab's targets use a second lab, where Karpenter creates the nodes.
LAB := $(RUN) -m lab $(if $(KARPENTER),--karpenter)

# The quick tests use no registry, browser or Prometheus, and one lab for one ramp.
SLOW := __pycache__ browser builds gate images lab pipelines policies standins tools
QUICK := $(filter-out $(SLOW:%=tests/%/),$(wildcard tests/*/)) $(wildcard tests/test_*.py) \
  tests/lab/test_exact.py::test_a_ramp_up_and_down_is_exact_at_every_step_and_leaves_no_trace

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick check format lab-up lab-down lab-shell lab-env lab-status bench chaos programs environment clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: environment ## move arm_ratio 0.2 -> 0.5 -> 0.8 -> 1.0 -> 0.5 in the lab, with the real engine (PLACEMENT=admission: the API server places the pods)
	@$(LAB) demo $(if $(PLACEMENT),--placement=$(PLACEMENT))

test: environment ## get the programs for the tests and run all tests, or TESTS="tests/cli -k ramp"
	@$(RUN) -m tools.run_tests $(TESTS)

test-quick: environment ## run the unit tests, and one ramp in the lab
	@$(RUN) -m tools.run_tests $(QUICK)

check: environment ## check lint rules, formatting, types, and imports between packages
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) -m mypy policies/__main__.py
	@PYTHONPATH=policies .venv/bin/lint-imports --no-logo --no-cache

format: environment ## format the code and apply safe lint fixes
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

lab-up: environment ## start the lab: a real control plane on this machine, with sample workloads (KARPENTER=1: Karpenter creates the nodes)
	@$(LAB) up

lab-down: environment ## stop the lab and keep its data
	@$(LAB) down

lab-shell: environment ## start a shell where kubectl and pulumi work on the lab
	@$(LAB) shell

lab-env: environment ## print the lab's environment as export lines: eval "$(make -s lab-env)"
	@$(LAB) env

lab-status: environment ## show which servers of the lab run
	@$(LAB) status

bench: environment programs ## compare the program with minimal programs
	@$(RUN) -m bench

chaos: environment programs ## inject random faults during a ramp and check invariants (CHAOS="--seed 7 --minutes 2")
	@$(RUN) -m chaos $(CHAOS)

programs: ## find, download or build the programs of the engine and the lab
	@$(PYTHON) tools/bootstrap.py >/dev/null

environment: ## install the packages of uv.lock into .venv
	@$(PYTHON) tools/python_env.py

clean: ## stop the labs and delete their data; built programs stay in the user's cache
	@if [ -x $(RUN) ] && [ -d .lab ]; then $(RUN) -m lab down; fi
	@if [ -x $(RUN) ] && [ -d .lab-karpenter ]; then $(RUN) -m lab --karpenter down; fi
	@rm -rf .lab .lab-karpenter .pytest_cache .mypy_cache .ruff_cache .hypothesis
