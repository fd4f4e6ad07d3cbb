#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bring the virtual environment up to date: scripts/environment.sh FOLDER
#
# From the environment: PYTHON (the interpreter to make it from), TORCH (the requirement) and
# TORCH_INDEX_URL (where to take PyTorch from; the default is pip's own index). Stamps keep
# it fast: dependencies are installed when the lock file changed (into a new environment when
# Python, PyTorch or this folder's name did), the package (its interfaces; its Python modules are read from the
# tree) when what it is built from changed.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1

fail() { printf 'make: %s\n' "$@" >&2; exit 1; }
say() { printf '\033[1m%s\033[0m\n' "$1"; }
supported() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2> /dev/null
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    supported "$PYTHON" || fail "PYTHON=$PYTHON does not run or is not Python 3.10, 3.11 or 3.12"
    echo "$PYTHON"
    return
  fi
  for candidate in python3 python3.12 python3.11 python3.10; do
    if supported "$candidate"; then echo "$candidate"; return; fi
  done
  fail "no Python 3.10, 3.11 or 3.12 was found." \
    "Install one, or name it: make demo PYTHON=/path/to/python3.11"
}

python=$(find_python)
version=$("$python" -c 'import platform; print(platform.python_version())')

# --- dependencies ---
torch=  # the process that installs it; it ends with this one
trap '[ -z "$torch" ] || kill "$torch" 2> /dev/null' EXIT
base="$version $TORCH ${TORCH_INDEX_URL:-} $PWD"
dependencies="$base $(sha256sum < requirements.lock)"
if ! "$venv/bin/python" -c '' 2> /dev/null ||
   [ "$(cat "$venv/base.stamp" 2> /dev/null)" != "$base" ]; then
  say "Making $venv with Python $version ..."
  "$python" -m venv --clear "$venv" ||
    fail "$python cannot make virtual environments (on Debian and Ubuntu: install python3-venv)"
  echo "$base" > "$venv/base.stamp"
fi
if [ "$(cat "$venv/dependencies.stamp" 2> /dev/null)" != "$dependencies" ]; then
  rm -f "$venv/dependencies.stamp"
  say "Installing ROS 2 and the other dependencies ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-deps --requirement requirements.lock
  # Last: what PyTorch needs besides CUDA is there already, whatever its index offers. The
  # interfaces need nothing of it and are built at the same time, so each may see the other half done.
  say "Installing $TORCH ..."
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-warn-conflicts --constraint requirements.lock \
    ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$TORCH" &
  torch=$!
fi

# --- the package itself ---
shopt -s nullglob globstar
sources=$(sha256sum pyproject.toml package.xml CMakeLists.txt cmake/* {config,launch}/**/*.* \
  {msg,srv,action}/*.*)
if [ "$(cat "$venv/package.stamp" 2> /dev/null)" != "$sources" ]; then
  for compiler in "${CC:-cc}" "${CXX:-c++}"; do
    command -v "$compiler" > /dev/null ||
      fail "no C and C++ compiler ($compiler) was found: the ROS 2 interfaces need one"
  done
  say "Building the ROS 2 interfaces ..."
  rm -rf "$venv/build/rosidl_generator_py"  # it would keep what was made of a removed file
  PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -m pip install --quiet \
    --disable-pip-version-check --no-deps --no-build-isolation --no-warn-conflicts \
    --config-settings=build-dir="$venv/build" --editable .
  echo "$sources" > "$venv/package.stamp"
fi
if [ -n "$torch" ]; then
  wait "$torch" || fail "$TORCH could not be installed"
  torch=
  echo "$dependencies" > "$venv/dependencies.stamp"
fi
