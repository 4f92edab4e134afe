# Everything a newcomer runs. `make` alone lists it.

PYTHON ?= python3
RUN := .venv/bin/python
# With KARPENTER=1 the lab's targets are those of a second lab, whose nodes Karpenter brings up.
LAB := $(RUN) -m lab $(if $(KARPENTER),--karpenter)

# What answers in seconds: no registry, browser or Prometheus, and one lab for one walk of the ratio.
SLOW := __pycache__ browser builds gate images lab pipelines policies standins tools
QUICK := $(filter-out $(SLOW:%=tests/%/),$(wildcard tests/*/)) $(wildcard tests/test_*.py) \
  tests/lab/test_exact.py::test_a_ramp_up_and_down_is_exact_at_every_step_and_leaves_no_trace

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick check format lab-up lab-down lab-shell lab-env lab-status bench chaos programs environment clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: environment ## walk arm_ratio 0.2 -> 0.5 -> 0.8 -> 1.0 -> 0.5 in the lab, with the real engine
	@$(LAB) demo

test: environment ## get what the tests need and run them: all, or TESTS="tests/cli -k ramp"
	@$(RUN) -m tools.run_tests $(TESTS)

test-quick: environment ## the unit tests, and one walk of the ratio through the lab
	@$(RUN) -m tools.run_tests $(QUICK)

check: environment ## lint, formatting, types, who imports whom
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) -m mypy policies/__main__.py
	@PYTHONPATH=policies .venv/bin/lint-imports --no-logo --no-cache

format: environment ## apply the formatting and the safe lint fixes
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

lab-up: environment ## start the lab: a real control plane on this machine, with sample workloads (KARPENTER=1: nodes by Karpenter)
	@$(LAB) up

lab-down: environment ## stop the lab (it keeps its data)
	@$(LAB) down

lab-shell: environment ## a shell in which kubectl and pulumi work on the lab
	@$(LAB) shell

lab-env: environment ## print the lab's environment as export lines: eval "$(make -s lab-env)"
	@$(LAB) env

lab-status: environment ## say what of the lab runs
	@$(LAB) status

bench: environment programs ## measure the program against bare ones
	@$(RUN) -m bench

chaos: environment programs ## random faults during a ramp, and what must hold (CHAOS="--seed 7 --minutes 2")
	@$(RUN) -m chaos $(CHAOS)

programs: ## find, download or build the engine and the lab's programs
	@$(PYTHON) tools/bootstrap.py >/dev/null

environment: ## bring .venv to what uv.lock says
	@$(PYTHON) tools/python_env.py

clean: ## stop the labs and delete them with their data; what was built stays in the user's cache
	@if [ -x $(RUN) ] && [ -d .lab ]; then $(RUN) -m lab down; fi
	@if [ -x $(RUN) ] && [ -d .lab-karpenter ]; then $(RUN) -m lab --karpenter down; fi
	@rm -rf .lab .lab-karpenter .pytest_cache .mypy_cache .ruff_cache .hypothesis
