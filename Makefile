# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv, on its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test faults long robotics cards check format lint types docs wheel bench clean

demo: $(STAMP)
	$(BIN)/stemrl demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

# Minutes of kill -9, full disks and broken files; `make test` has the short ones.
faults: $(STAMP)
	$(BIN)/python -m pytest -m "faults or not faults" --durations 10 tests/test_faults.py tests/test_elsewhere.py

# Tests that compile for minutes.
long: $(STAMP)
	$(BIN)/python -m pytest -m long --durations 10

# Gymnasium-Robotics runs on an older MuJoCo, so these tests have an environment of their own.
robotics:
	test -x $(VENV)-robotics/bin/python || $(PYTHON) -m venv $(VENV)-robotics
	$(VENV)-robotics/bin/python -m pip install --quiet --disable-pip-version-check -e '.[robotics]' 'pytest>=8'
	$(VENV)-robotics/bin/python -m pytest -rs tests/test_gymnasium_goals.py

# Every card at its small scale: seconds each, to see that it runs.
cards: $(STAMP)
	$(BIN)/python tests/quick_cards.py

# What .ci/run does after the tests' set-up: everything that must hold before a change lands.
check: lint types test docs

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "stemrl needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,gymnax,mjx,digits]'
	@touch $(STAMP)

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyright

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(STAMP)
	$(BIN)/python -m build --outdir dist .

# PEERS: an interpreter that has the other libraries; without it only the fixed figures stand beside.
# PEARL, VARIBAD: checkouts of these methods' authors' code; see benchmarks/meta.py.
bench: $(STAMP)
	$(BIN)/python benchmarks/physics.py
	$(BIN)/python benchmarks/maml.py
	$(BIN)/python benchmarks/her.py $(if $(PEERS),--peers $(PEERS))
	$(BIN)/python benchmarks/sac.py $(if $(PEERS),--peers $(PEERS))
	$(BIN)/python benchmarks/meta.py $(if $(PEERS),--peers $(PEERS)) $(if $(PEARL),--pearl $(PEARL)) \
	  $(if $(VARIBAD),--varibad $(VARIBAD))
	$(BIN)/python benchmarks/transfer.py
	$(BIN)/python benchmarks/start_up.py

clean:
	rm -rf $(VENV) build dist site src/*.egg-info
