#!/usr/bin/env bash
# Everything that only a GPU can show, in one call, on a machine that has one and needs nothing else:
#
#   bench/gpu.sh BUNDLE_FOLDER [OUT_FOLDER]
#
# BUNDLE_FOLDER holds the archives of `./dev bundle op_test update_ops_test embedding_ops_test codec_ops_test norm_test conv2d_test device_check_test communicator_test device_front_end_test gpu_cluster_test one_process_test gpu_speech_test bench_gpu`, or what is in them.
# Prints a table; OUT_FOLDER (gpu-results) gets results.json, bench_gpu.json, figures.json and the logs. Exit status 1: something that ran failed; 3: nothing
# failed, but of a program of tests nothing ran.
set -uo pipefail
BUNDLES=$(realpath "$1")
OUT=$(realpath -m "${2:-gpu-results}")
SOURCE=$(realpath "$(dirname "$0")/..")
readonly BUNDLES OUT SOURCE
mkdir -p "$OUT"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

NAMES=() RESULTS=() SECONDS_OF=()
# note NAME RESULT SECONDS
note() {
  NAMES+=("$1") RESULTS+=("$2") SECONDS_OF+=("$3")
  printf '%-34s %-60s %6s s\n' "$1" "$2" "$3"
}
# part NAME LIMIT_S COMMAND…: runs it into a log of its own; its result is its last line.
part() {
  local name=$1 limit=$2 begin=$SECONDS code; shift 2
  timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1
  code=$?
  if [ $code = 0 ]; then note "$name" "$(grep -v '^$' "$OUT/$name.log" | tail -1 | cut -c1-60)" $((SECONDS - begin)); else
    note "$name" "FAILED ($code): $(grep -v '^$' "$OUT/$name.log" | tail -1 | cut -c1-40)" $((SECONDS - begin))
  fi
  return $code
}
# count LOG PASSED|SKIPPED|FAILED: of tests, as googletest's last lines say.
count() { sed -nE "s/^\[  $2 +\] ([0-9]+) tests?[.,].*/\1/p" "$1" | tail -1 | grep . || echo 0; }
# tests NAME LIMIT_S COMMAND…: the same for a program of googletest. Its result: how many passed, failed and were skipped, and why.
tests() {
  local name=$1 limit=$2 begin=$SECONDS code log=$OUT/$1.log passed skipped failed result; shift 2
  timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1
  code=$?
  passed=$(count "$log" PASSED) skipped=$(count "$log" SKIPPED) failed=$(count "$log" FAILED)
  if [ "$failed" != 0 ]; then result="FAILED: $failed failed, $passed passed"
  elif [ $code != 0 ]; then result="FAILED ($code): $(grep -v '^$' "$log" | tail -1 | cut -c1-60)"
  elif [ "$passed" = 0 ]; then result="NOTHING RAN"
  else result="$passed passed"; fi
  if [ "$skipped" != 0 ]; then
    result+=", $skipped skipped: $(awk '/: Skipped$/ { getline; if (!told[$0]++) printf "%s%s", (n++ ? "; " : ""), $0 }' "$log")"
  fi
  note "$name" "$result" $((SECONDS - begin))
}

for archive in "$BUNDLES"/*.tar.zst; do
  [ -e "$archive" ] || continue
  if command -v zstd >/dev/null; then zstd -dc "$archive" | tar x -C "$WORK"; else
    python3 -c 'import sys, zstandard; zstandard.ZstdDecompressor().copy_stream(sys.stdin.buffer, sys.stdout.buffer)' <"$archive" |
      tar x -C "$WORK" || { echo "gpu.sh: no zstd here: give a folder of unpacked bundles"; exit 2; }
  fi
done
MUSTER=$(find "$WORK" "$BUNDLES" -maxdepth 1 -type d -name 'muster-[0-9]*' | head -1)
MAKER=$(find "$WORK" "$BUNDLES" -maxdepth 1 -type d -name 'muster-speech-maker-*' | head -1)
[ -n "$MUSTER" ] || { echo "gpu.sh: no bundle in $BUNDLES"; exit 2; }
export MUSTER_BIN=$MUSTER/bin

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null | tee "$OUT/nvidia-smi.txt"
if ! part doctor 120 "$MUSTER/bin/launch" doctor; then
  cat "$OUT/doctor.log"
  if grep -q '^No usable GPU' "$OUT/doctor.log"; then exit 1; fi
fi

for test in op_test update_ops_test embedding_ops_test codec_ops_test norm_test conv2d_test device_check_test communicator_test device_front_end_test gpu_cluster_test one_process_test \
  gpu_speech_test; do
  [ -x "$MUSTER/bin/$test" ] || { note "$test" "not in the bundle" 0; continue; }
  tests "$test" 120 "$MUSTER/bin/$test" --gtest_filter='*gpu*-*host_gpu*'
done
if command -v compute-sanitizer >/dev/null && [ -x "$MUSTER/bin/op_test" ]; then
  tests compute-sanitizer 180 compute-sanitizer --error-exitcode 9 "$MUSTER/bin/op_test" --gtest_filter='*/gpu'
else
  note compute-sanitizer "skipped: not on this machine" 0
fi
if [ -x "$MUSTER/bin/bench_gpu" ]; then
  part bench_gpu 240 "$MUSTER/bin/bench_gpu" --json "$OUT/bench_gpu.json"
  cat "$OUT/bench_gpu.log"
fi

if [ -n "$MAKER" ]; then
  part speech_data 120 "$MAKER/bin/make_speech_data" --out "$WORK/data" --clips 22000 --processes "$(nproc)"
  # speech_job NAME FOLDER OPTIONS… [-- FLAGS…]: beside it is sampled for how much of the time kernels ran.
  speech_job() {
    local name=$1 folder=$WORK/$2 sampler; shift 2
    mkdir -p "$folder"
    date +%s.%N >"$folder/began"
    nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits -lms 200 >"$folder/busy" 2>/dev/null &
    sampler=$!
    part "$name" 150 "$MUSTER/bin/launch" --module-name speech_commands.train --job-dir "$folder" "$@"
    { kill "$sampler"; wait "$sampler"; } 2>/dev/null
  }
  # One trainer and one server process: the job of the old days, on this GPU. And the same without a server process.
  data=(-- "--data_dir=$WORK/data")
  speech_job speech_job_server with-server --device GPU --scale-tier custom --master-machine-type standard_gpu \
    --parameter-server-count 1 --parameter-server-machine-type large_model "${data[@]}"
  speech_job speech_job_alone alone --device GPU --scale-tier basic-gpu "${data[@]}"
  # Its first steps on both devices, in FP32.
  for device in CPU GPU; do
    tier=basic; [ $device = CPU ] || tier=basic-gpu
    speech_job "fp32_steps_$device" "fp32-$device" --device $device --scale-tier $tier --set training.precision=FP32 \
      --set training.summaryInterval=1 "${data[@]}" --how_many_training_steps=20 --learning_rate=0.001
  done
  if command -v python3 >/dev/null; then
    part speech_figures 30 python3 "$SOURCE/bench/gpu_figures.py" "$OUT/figures.json" "$WORK"/{with-server,alone,fp32-CPU,fp32-GPU}
    cat "$OUT/speech_figures.log"
  else
    note speech_figures "skipped: no python3" 0
  fi
  for name in with-server alone; do
    cp "$WORK/$name/report.html" "$OUT/report-$name.html" 2>/dev/null
    cp "$WORK/$name/state.json" "$OUT/state-$name.json" 2>/dev/null
  done
else
  note speech_job "skipped: no speech maker in $BUNDLES" 0
fi
if python3 -c 'import torch' 2>/dev/null; then
  part pytorch_conv 240 python3 "$SOURCE/bench/gpu_pytorch.py" "$OUT/pytorch.json"
else
  note pytorch_conv "skipped: no torch" 0
fi
if python3 -c 'import tensorboard' 2>/dev/null && [ -d "$WORK/alone/summaries" ]; then
  part tensorboard 60 python3 - "$WORK/alone/summaries" <<'PY'
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
tags = events.Tags()["scalars"]
assert tags, "no scalars"
print(len(tags), "scalars:", ", ".join(tags)[:50])
PY
else
  note tensorboard "skipped: not installed, or nothing to read" 0
fi

failed=0 nothing_ran=0
{
  printf '{"gpu": "%s", "date": "%s", "parts": [\n' "$(tr '\n' ';' <"$OUT/nvidia-smi.txt")" "$(date -u +%F)"
  for i in "${!NAMES[@]}"; do
    case ${RESULTS[$i]} in FAILED*) failed=1 ;; "NOTHING RAN"*) nothing_ran=1 ;; esac
    result=${RESULTS[$i]//\\/\\\\}
    printf '  {"name": "%s", "result": "%s", "seconds": %s}%s\n' "${NAMES[$i]}" "${result//\"/\\\"}" "${SECONDS_OF[$i]}" \
      "$([ "$i" = $((${#NAMES[@]} - 1)) ] || echo ,)"
  done
  echo ']}'
} >"$OUT/results.json"
[ $failed = 0 ] || exit 1
[ $nothing_ran = 0 ] || exit 3
