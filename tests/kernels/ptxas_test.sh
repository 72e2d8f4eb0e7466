#!/usr/bin/env bash
# The kernels of the GPU plug-in, compiled for the architectures named: none may keep anything in local memory, spill registers, or be
# missing from what nvcc says.
#
#   ptxas_test.sh NVCC SOURCE_FOLDER ARCHITECTURE…
#
# Exit status 77: there is no nvcc.
set -euo pipefail
readonly NVCC=$1 SOURCE=$2
shift 2
[ -x "$NVCC" ] || { echo "SKIPPED: no nvcc: the plug-in is not part of this build"; exit 77; }

listed=$(grep -c '^MUSTER_LAUNCH(' "$SOURCE/kernels/cuda/launch.cu")
for architecture in "$@"; do
  said=$("$NVCC" -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr -arch="sm_$architecture" -Xptxas -v -cubin -I"$SOURCE" -o /dev/null \
    "$SOURCE/kernels/cuda/launch.cu" 2>&1)
  compiled=$(grep -c "Compiling entry function" <<<"$said")
  echo "sm_$architecture: $compiled kernels, at most $(sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' <<<"$said" | sort -n | tail -1) registers"
  [ "$compiled" = "$listed" ] || { echo "FAILED: launch.cu lists $listed kernels"; exit 1; }
  if grep -B2 'bytes stack frame' <<<"$said" | grep -v ' 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' |
    grep 'bytes stack frame'; then
    echo "FAILED: on sm_$architecture these use local memory or spill; all that nvcc said:"
    echo "$said"
    exit 1
  fi
done
