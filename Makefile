# Two commands do all set-up: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test serve check lint bench bench-window pictures editor soak vm clean

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("magickbox needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[processors]'
	@touch $@

$(VENV)/.test: $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

demo: $(VENV)/.runtime        ## a whole round on this machine: send, process, route, receive
	$(BIN)/magickbox demo

serve: $(VENV)/.runtime       ## a box on ./data
	$(BIN)/magickbox serve --data ./data --processors ./processors

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint                    ## everything that CI runs
	$(BIN)/python tests/halves.py

bench: $(VENV)/.test          ## what the box itself adds to a job, how fast it receives and converts; see docs/performance.md
	$(BIN)/python bench/flow.py
	$(BIN)/python bench/flow.py --which
	$(BIN)/python bench/transcode.py
	$(BIN)/magickbox bench receive
	$(BIN)/magickbox bench send
	$(BIN)/python bench/sandbox.py
	$(BIN)/python bench/pictures.py
	$(BIN)/python bench/windowcost.py

editor:                        ## bundles the editor of the rules again; needs node and npm
	cd editor && npm ci && npm run build

pictures: $(VENV)/.test       ## the pictures of the window in docs/pictures; needs Debian's chromium
	$(BIN)/python bench/screenshots.py

bench-window: $(VENV)/.test   ## how fast the window answers with 50,000 jobs of 500 instances
	$(BIN)/python bench/window.py --jobs 50000

soak: $(VENV)/.test           ## long random kill tests
	$(BIN)/pytest -m soak

vm:                           ## the disk image, and the proof that it works; as root, needs Debian packages that it names
	vm/prove

clean:
	rm -rf $(VENV) demo-data vm-image
