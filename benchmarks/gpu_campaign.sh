#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The released model at full size on this machine's GPUs, with made-up weights: every switch of the
# fast path by itself, the autoencoder, whole chunks with every sampler preset, and two GPUs.
# Some minutes on one H200, and those in which FlexAttention and the decoder are compiled. Needs PyTorch, diffusers and Triton; no ROS.
#
#   bash benchmarks/gpu_campaign.sh [FOLDER [PART ...]]     parts: kernels forward chunk fp8 team
set -u
cd "$(dirname "$0")/.."
folder=${1:-bench_results}
shift || true
parts=${*:-kernels forward chunk fp8 team}
model=${BENCH_MODEL:-full-size}
export PYTHONPATH="$PWD/model:$PWD/test${PYTHONPATH:+:$PYTHONPATH}"
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}
python=${PYTHON:-python3}
mkdir -p "$folder"

bench() {  # bench NAME ARGUMENTS: log and JSON in the folder
  local name=$1
  shift
  "$python" -m hydra_model.benchmark --model "$model" --json "$folder/$name.json" "$@" \
    > "$folder/$name.txt" 2> "$folder/$name.log" || echo "$name failed: $(tail -n 1 "$folder/$name.log")"
}

for part in $parts; do
  case $part in
    kernels)  # the kernels on the GPU itself, against the plain passes
      "$python" test/model/fast/kernel_checks.py > "$folder/kernels.txt" 2>&1 \
        && echo "kernels agree" || { echo "kernels FAILED"; tail -n 5 "$folder/kernels.txt"; } ;;
    forward) bench forward --parts forward,autoencoder,profile --repeats 3 ;;
    chunk) bench chunk --parts chunk --chunk-variant exact+pair+graph ;;
    fp8) bench fp8 --parts chunk --chunk-variant "fp8 all+pair+graph" --presets fast,few_step ;;
    team) bench team --parts team --gpus "$(${python} -c 'import torch; print(max(1, torch.cuda.device_count()))')" ;;
    *) echo "unknown part $part; accepted: kernels forward chunk fp8 team"; exit 2 ;;
  esac
done
for part in $parts; do
  [ -f "$folder/$part.txt" ] && [ "$part" != kernels ] && { echo; echo "== $part"; cat "$folder/$part.txt"; }
done
exit 0
