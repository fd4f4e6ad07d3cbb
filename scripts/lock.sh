#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Write requirements.lock anew from pyproject.toml: every package that `make` installs, for every
# Python that is supported. PyTorch and the CUDA libraries that it needs are left to the
# Makefile, where a user chooses the build of PyTorch. Needs uv.
set -euo pipefail
cd "$(dirname "$0")/.."
torch=$(sed -n 's/^TORCH := //p' Makefile)

python3 - > .build-requirements.tmp <<'EOF'
import re

text = open("pyproject.toml").read()
requires = re.search(r"^requires = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE).group(1)
print("\n".join(re.findall(r'^\s*"(.*?)"', requires, re.MULTILINE)), "cmake<4", "ninja", sep="\n")
EOF
trap 'rm -f .build-requirements.tmp' EXIT

{
  echo "# Written by scripts/lock.sh. Every package that make installs, but $torch and its CUDA."
  uv pip compile pyproject.toml .build-requirements.tmp --extra dev \
    --universal --python-version 3.10 --constraint <(echo "$torch") \
    --no-header --no-annotate --quiet |
    grep -vE '^(torch|nvidia-|cuda-)'
} > requirements.lock.new
mv requirements.lock.new requirements.lock
