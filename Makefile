# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` work from a bare clone: they make .venv in this folder, with
# pinned dependencies (requirements.lock), and bring it up to date when those change. Python
# files are used from the tree as they are; nothing has to be installed again after an edit.

VENV := .venv
TORCH := torch==2.13.0
BIN := $(VENV)/bin

# PYTHON=/path/to/python3.11 chooses the interpreter, TORCH_INDEX_URL=... another build of
# PyTorch (on Linux the default one is for CUDA), ARGS="..." passes options on. The tests run
# in two processes at a time, each test file in one of them (ARGS="-n 0" for a debugger).
PYTHON ?=
TORCH_INDEX_URL ?=
ARGS ?=
export PYTHON TORCH TORCH_INDEX_URL

# The environment has its own ROS 2; a sourced one must not mix with it.
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH PYTHONHOME
unexport RMW_IMPLEMENTATION _ROS_WHEELS_BOOTSTRAP_COMPLETE
ifdef AMENT_PREFIX_PATH
unexport LD_LIBRARY_PATH
endif

.PHONY: help demo test lint environment lock clean

help:
	@echo "make demo         show the world model, from a clean clone"
	@echo "make test         ruff, mypy and all tests"
	@echo "make lint         ruff and mypy alone"
	@echo "make environment  only bring $(VENV) up to date"
	@echo "make lock         choose the pinned dependencies anew (needs uv)"
	@echo "make clean        remove $(VENV) and build outputs"

demo: environment
	$(BIN)/hydra-ros demo $(ARGS)

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: environment
	$(BIN)/ruff check .
	$(BIN)/mypy

environment:
	@bash scripts/environment.sh $(VENV)

lock:
	bash scripts/lock.sh

clean:
	rm -rf $(VENV) build install log dist .mypy_cache .ruff_cache .pytest_cache
