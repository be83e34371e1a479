# make fool | caption | test | quick | lint | notebooks | docs | bench | lowest
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo $$p; break; }; done)
RUN := .venv/bin/python

.PHONY: fool caption test quick lint notebooks check-notebooks docs bench lowest clean
fool: .venv/run.stamp
	$(RUN) -m visualization.fool --target 6

caption: .venv/run.stamp
	$(RUN) -m tfcap.caption $(PHOTO)

# two at a time; a file's tests share their models, so they stay in one process. In two runs, as
# TensorFlow gives back no memory of what it has compiled: a process stays under 3 GB
PYTEST := -m pytest -n 2 --dist loadfile --durations 20 --durations-min 1
CAPTIONING := tests/tfcap tests/hostile tfcap
OTHERS := tests visualization --ignore tests/tfcap --ignore tests/hostile

test: .venv/test.stamp
	$(RUN) $(PYTEST) $(CAPTIONING); first=$$?; $(RUN) $(PYTEST) $(OTHERS) && exit $$first

quick: .venv/test.stamp
	$(RUN) $(PYTEST) -m "not slow" $(CAPTIONING)
	$(RUN) $(PYTEST) -m "not slow" $(OTHERS)

lint: .venv/test.stamp
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	.venv/bin/lint-imports --no-logo

notebooks: .venv/test.stamp
	$(RUN) -m notebooks.execute

check-notebooks: .venv/test.stamp
	$(RUN) -m notebooks.execute --check

docs: .venv/test.stamp
	$(RUN) -m pdoc --docformat google --output-directory out/docs tfcap visualization

bench: .venv/bench.stamp
	@mkdir -p out
	$(RUN) -m benchmarks --json out/benchmarks.json --figure out/benchmarks.png

# the lowest versions that pyproject.toml names, in an environment of their own
lowest: | .venv/bin/pip
	$(RUN) -m venv .venv-lowest
	sed 's/>=/==/; s/ *#.*//' requirements.txt > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet -r requirements-dev.txt -c .venv-lowest/lowest.txt
	.venv-lowest/bin/python $(PYTEST) -m "not slow"

clean:
	rm -rf .venv .venv-lowest

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
