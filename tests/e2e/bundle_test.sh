#!/usr/bin/env bash
# The bundle where nothing else is: both archives are made from this build, unpacked in a root that holds glibc and GCC's run-time
# libraries and not one program, and a whole job runs there: data, a master, a worker, a parameter server, a model.
#
#   bundle_test.sh BUILD_FOLDER MOUNT_POINT VERSION
#
# All it makes lies in a tmpfs of its own mount namespace, and all it starts in its own process namespace: both end with it, however it
# ends. Exit status 77: cannot run here.
set -euo pipefail
SOURCE=$(realpath "$(dirname "$0")/../..")
readonly SOURCE BUILD=$1 ROOT=$2 VERSION=$3
readonly MAIN=$ROOT/opt/muster-$VERSION SPEECH=$ROOT/opt/muster-speech-maker-$VERSION
readonly LARGEST=40000000 NEWEST_GLIBC=2.36 NEWEST_GLIBCXX=3.4.30  # bytes; Debian 12's

skip() { echo "SKIPPED: $*"; exit 77; }
fail() { echo "FAILED: $*"; exit 1; }

empty_root() {
  mount -t tmpfs tmpfs "$ROOT"
  mkdir -p "$ROOT"/{proc,dev,tmp,opt,lib64,usr/lib}
  ln -s usr/lib "$ROOT/lib"
  mount -t proc proc "$ROOT/proc"
  touch "$ROOT"/dev/{null,urandom}
  mount --bind /dev/null "$ROOT/dev/null"
  mount --bind /dev/urandom "$ROOT/dev/urandom"
}

if [ "${4:-}" != inside ]; then
  for tool in zstd unshare dpkg-query; do
    command -v "$tool" >/dev/null || skip "no program $tool"
  done
  spaces=(--mount --pid --fork --kill-child=KILL)
  [ "$(id -u)" = 0 ] || spaces+=(--map-root-user)
  mkdir -p "$ROOT"
  reason=$(export ROOT; unshare "${spaces[@]}" bash -ec "$(declare -f empty_root); empty_root" 2>&1) ||
    skip "no root of its own can be made here: $reason"
  exec unshare "${spaces[@]}" "$0" "$BUILD" "$ROOT" "$VERSION" inside
fi

# run PROGRAM ARGUMENT…: in the empty root, with an environment of its own.
run() { env -i HOME=/ "$(command -v chroot)" "$ROOT" "$@"; }

empty_root
export TMPDIR=$ROOT/tmp ZSTD_CLEVEL=1
mkdir "$ROOT"/{first,again}

"$SOURCE/cmake/bundle.sh" "$BUILD" "$ROOT/first"
"$SOURCE/cmake/bundle.sh" "$BUILD" "$ROOT/again" >/dev/null
diff -r "$ROOT/first" "$ROOT/again" || fail "the same build gave two bundles"
for archive in "$ROOT"/first/*; do
  tar -C "$ROOT/opt" --zstd -xf "$archive"
done
[ "$(stat -c %s "$ROOT/first/muster-$VERSION-linux-x86_64.tar.zst")" -le $LARGEST ] || fail "larger than $LARGEST bytes"
rm -r "$ROOT"/{first,again}
[ "$(ls "$ROOT/opt")" = "$(printf '%s\n' "muster-$VERSION" "muster-speech-maker-$VERSION")" ] || fail "more than one folder each"

# What runs here must run on Debian 12.
for folder in "$MAIN" "$SPEECH"; do
  for program in "$folder"/bin/*; do
    [[ $program == *.so ]] && continue
    readelf -d "$program" | grep -qF 'Library rpath: [$ORIGIN/../lib]' || fail "$program does not look for libraries beside itself"
  done
  for library in "$folder"/lib/*; do
    ! readelf -d "$library" | grep -E 'R(UN)?PATH' || fail "$library looks for libraries elsewhere"
  done
  ! ls "$folder/lib" | grep -E '^lib((c|m|stdc\+\+|gcc_s)\.so|cuda|cublas|cudnn|nccl)' || fail "these are the machine's"
  for needed in "GLIBC_ $NEWEST_GLIBC" "GLIBCXX_ $NEWEST_GLIBCXX"; do
    read -r prefix newest <<<"$needed"
    found=$(objdump -T "$folder"/{bin,lib}/* | grep -o "${prefix}[0-9.]*" | sort -uV | tail -1)
    echo "${folder##*/} needs $found"
    [ "$(printf '%s\n' "$found" "$prefix$newest" | sort -V | tail -1)" = "$prefix$newest" ] || fail "$found is newer than Debian 12's"
  done
  if [ "$folder" = "$MAIN" ]; then
    promised=$(sed -n 's/.*"glibc": "\([0-9.]*\)".*/\1/p' "$folder/built_for.json")
    found=$(objdump -T "$folder"/{bin,lib}/* | grep -o "GLIBC_[0-9.]*" | sort -uV | tail -1)
    [ "$(printf '%s\n' "$found" "GLIBC_$promised" | sort -V | tail -1)" = "GLIBC_$promised" ] || fail "needs $found, and built_for.json says ${promised:-nothing}"
  fi
  [ -s "$folder/licenses/libssl3.txt" ] && [ -s "$folder/licenses/common-licenses/Apache-2.0" ] || fail "licences are missing"
done
[ -s "$SPEECH/COPYING" ] || fail "the GPL is missing"
! ls "$MAIN"/* | grep -i espeak || fail "GPL code in the main archive"

system=$(dirname "$(realpath /lib64/ld-linux-x86-64.so.2)")
cp -L /lib64/ld-linux-x86-64.so.2 "$ROOT/lib64/"
for library in c m mvec dl rt pthread resolv stdc++ gcc_s; do
  cp -L "$system/lib$library.so."[0-9] "$ROOT/usr/lib/"
done

run "/opt/muster-speech-maker-$VERSION/bin/make_speech_data" --out /data --clips 200 --noise-seconds 2
cat >"$ROOT/job.yaml" <<'YAML'
trainingInput: {scaleTier: CUSTOM, masterType: standard, workerType: standard, workerCount: 1, parameterServerType: standard,
  parameterServerCount: 1, pythonModule: speech_commands.train, args: [--data_dir=/data, --model_architecture=tiny_conv]}
training: {batchSize: 10, schedule: [{steps: 10, learningRate: 0.01}], checkpoints: {interval: 5}, evaluation: {interval: 10}}
YAML
run "/opt/muster-$VERSION/bin/launch" --config /job.yaml --job-dir /job
grep -q '"state": *"SUCCEEDED"' "$ROOT/job/state.json" || fail "the job did not succeed"
[ -s "$ROOT/job/export/model.onnx" ] || fail "no model"
run "/opt/muster-$VERSION/bin/launch" --config "/opt/muster-$VERSION/configs/custom.yaml" --module-name speech_commands.train --check
