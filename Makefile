# `make train` and `make test` are all that a fresh clone needs: each makes .venv and installs everything first.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: setup train test lint clean

setup: $(READY)

# betty-ml 0.2.1 goes first and by itself: its metadata refuse Python 3.11 and later, though its code runs there.
$(READY): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-deps --ignore-requires-python betty-ml==0.2.1
	$(BIN)/python -m pip install --constraint .ci/constraints.txt --editable '.[trackers,deepspeed,peers,dev]'
	touch $(READY)

train: $(READY)
	$(BIN)/accelerate launch --quiet --config_file engine_configs/accelerate/one_process.yaml launch/train.py --problem clutrr

# As many workers as there are cores, four at most, as tests of several processes start their own.
test: $(READY)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info
