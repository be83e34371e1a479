# make fool | make test | make lint | make notebooks | make bench
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo $$p; break; }; done)
RUN := .venv/bin/python

.PHONY: fool test lint notebooks check-notebooks bench clean
fool: .venv/run.stamp
	$(RUN) -m visualization.fool --target 6

test: .venv/test.stamp
	$(RUN) -m pytest

lint: .venv/test.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

notebooks: .venv/test.stamp
	$(RUN) -m notebooks.execute

check-notebooks: .venv/test.stamp
	$(RUN) -m notebooks.execute --check

bench: .venv/bench.stamp
	@mkdir -p out
	$(RUN) -m benchmarks --json out/benchmarks.json --figure out/benchmarks.png

clean:
	rm -rf .venv

.venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11, 3.12 or 3.13 was found: install one, or name it with 'make PYTHON=/path/to/python'" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { echo "make: $(PYTHON) is not Python 3.11, 3.12 or 3.13, which TensorFlow needs: name one with 'make PYTHON=/path/to/python'" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module: install it (Debian and Ubuntu: apt install python3-venv) or name another Python with 'make PYTHON=/path/to/python'" >&2; exit 2; }
	$(PYTHON) -m venv .venv

.venv/run.stamp: requirements.txt | .venv/bin/pip
	$(RUN) -m pip install --quiet -r requirements.txt
	@touch $@

.venv/test.stamp: requirements-dev.txt requirements.txt | .venv/bin/pip
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	@touch $@

.venv/bench.stamp: benchmarks/requirements.txt requirements.txt | .venv/bin/pip
	$(RUN) -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@
