#!/usr/bin/env bash
# Run benchmarks and tests on a machine with an NVIDIA GPU, in parts of a few minutes. It needs no network:
#
#     tests/benchmarks/on_gpu.sh A|B|C|D|join [RESULTS]
#
# A: speed compared with openai-whisper, with captured CUDA graphs. B: exactness, tokens, memory.
# C: compute-sanitizer on the kernels, and tests/test_on_gpu.py. D: the doctor on PyTorch's models in TF32, float16 and
# bfloat16. join: only combine the copied folders.
# Each part prints its tables and saves them in RESULTS (default: $OUT, or ./results) as PART.json and PART.txt. The exit
# status is 0 if all values are within their limits.
#
# The folders created by `gpu.py --prepare` are read from .gpu/1, .gpu/2 … in the checkout (or MINWHISPER_CARRIED), in one
# call or several, and combined in MINWHISPER_MODELS (default: /tmp/minwhisper_models).
# Limits in seconds: LIMIT_A (150), LIMIT_B (150), LIMIT_C (120), LIMIT_D (90). PYTHON is the interpreter (python3).
set -uo pipefail
part=${1:-}
root=$(cd "$(dirname "$0")/../.." && pwd)
results=${2:-${OUT:-$PWD/results}}
python=${PYTHON:-python3}
export MINWHISPER_MODELS=${MINWHISPER_MODELS:-/tmp/minwhisper_models}
export PYTHONPATH=$root:$root/tests/support:$root/tests/benchmarks:$MINWHISPER_MODELS${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1

case $part in
    A) rows="machine speed" limit=${LIMIT_A:-150} ;;
    B) rows="machine correct memory" limit=${LIMIT_B:-150} ;;
    C) rows="checks" limit=${LIMIT_C:-120} ;;
    D) rows="doctor" limit=${LIMIT_D:-90} ;;
    join) rows="" ;;
    *) echo "on_gpu.sh: expected a part, A, B, C, D or join, got '${part}'" >&2; exit 2 ;;
esac

carried=${MINWHISPER_CARRIED:-$root/.gpu}
mkdir -p "$MINWHISPER_MODELS"
if [ -d "$carried" ]; then
    "$python" "$root/tests/benchmarks/gpu_parcels.py" "$MINWHISPER_MODELS" "$carried"/*/ || exit 2
fi
[ -n "$rows" ] || exit 0

mkdir -p "$results"
if [ "$part" = D ]; then
    timeout --kill-after=5 "$limit" "$python" "$root/tests/benchmarks/doctor_ports.py" --device cuda \
        --keep "$results/dumps" 2>&1 | tee "$results/D.txt"
    exit "${PIPESTATUS[0]}"
fi
# Rows end a little before the limit. A row that hangs is stopped; saved results remain.
minutes=$(awk "BEGIN { print ($limit - 10) / 60 }")
# shellcheck disable=SC2086  # rows are words
timeout --kill-after=5 "$limit" "$python" "$root/tests/benchmarks/gpu.py" --rows $rows --minutes "$minutes" \
    --json "$results/$part.json" 2>&1 | tee "$results/$part.txt"
status=${PIPESTATUS[0]}
[ "$status" -lt 124 ] || echo "on_gpu.sh: part $part was stopped at its limit of $limit s" | tee -a "$results/$part.txt"
exit "$status"
