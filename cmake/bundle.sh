#!/usr/bin/env bash
# Makes, from a finished build, the archives for a machine without compiler and packages:
#
#   cmake/bundle.sh BUILD_FOLDER OUT_FOLDER [PROGRAM…]
#
#   muster-VERSION-linux-x86_64.tar.zst               launch, master, worker, ps, each PROGRAM of bin/ or tests/, the plug-in if it was built
#   muster-speech-maker-VERSION-linux-x86_64.tar.zst  make_speech_data and its voices: GPL, hence apart
#
# Each unpacks into one folder and runs from there: bin/, lib/, licenses/. Needs Debian's dpkg (whose package is a library, under which
# licence), binutils and zstd. The same build and packages give the same bytes.
set -euo pipefail
shopt -s nullglob

BUILD=$(realpath "$1")
OUT=$(realpath "$2")
SOURCE=$(realpath "$(dirname "$0")/..")
VERSION=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$BUILD/CMakeCache.txt")
COMMIT=$(git -C "$SOURCE" rev-parse HEAD 2>/dev/null || echo unknown)
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
readonly BUILD OUT SOURCE VERSION COMMIT STAGE
shift 2

# What the machine itself has. glibc, which must fit its kernel and name services. GCC's run-time libraries: every Debian and Ubuntu has them
# (apt needs them), newer ones serve older programs and not the other way round, and a driver's or CUDA's libraries, which are the
# machine's, must meet those that they were made for.
readonly SYSTEM='^(ld-linux.*|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl|stdc\+\+|gcc_s))\.so'
# Found on the machine when a GPU is used.
readonly CUDA='^lib(cuda|cudart|cublas|cublasLt|cudnn|nccl|cufft|curand|cusparse|cusolver|nv)[A-Za-z0-9_-]*\.so'
# Packages whose headers are compiled into the programs.
readonly HEADERS=(libcli11-dev nlohmann-json3-dev)

die() { printf 'bundle: %s\n' "$*" >&2; exit 1; }

for tool in cmake dpkg-query ldd strip zstd; do
  command -v "$tool" >/dev/null || die "needs the program $tool"
done
if grep -q -e '-march=' "$BUILD/compile_commands.json"; then
  die "$BUILD was compiled with -march: it would not run on every x86-64"
fi

# libraries FILE…: what they load that the machine lacks, as "name path".
libraries() {
  local name arrow path rest
  ldd "$@" | sort -u | while read -r name arrow path rest; do
    [ "$arrow" = '=>' ] || continue
    [[ $name =~ $SYSTEM || $name =~ $CUDA ]] && continue
    [ "$path" != not ] || die "$name is not found"
    echo "$name $path"
  done | sort -u
}

# packages FILE…: the Debian packages that own them.
packages() {
  local line file
  local -A owner
  # Packages from before the merge of / and /usr list the path without /usr.
  while read -r line; do
    file=${line##*: }
    owner[${file#/usr}]=${line%%:*}
  done < <(dpkg-query -S "$@" "${@#/usr}" 2>/dev/null)
  for file in "$@"; do
    [ -n "${owner[${file#/usr}]:-}" ] || die "no Debian package owns $file"
    echo "${owner[${file#/usr}]}"
  done | sort -u
}

# licenses FOLDER PACKAGE…: each package's copyright file, the licences that these refer to, and where the sources are.
licenses() {
  local folder=$1 package text; shift
  for package in "$@"; do
    cp -L "/usr/share/doc/$package/copyright" "$folder/$package.txt"
  done
  mkdir "$folder/common-licenses"
  for text in $(grep -oh '/usr/share/common-licenses/[A-Za-z0-9.+-]*[A-Za-z0-9]' "$folder"/*.txt | sort -u); do
    cp -L "$text" "$folder/common-licenses/"
  done
  {
    echo "Muster $VERSION, commit $COMMIT."
    echo "Made of these packages of Debian or Ubuntu, whose archives hold the sources (package version, source version):"
    # shellcheck disable=SC2016
    dpkg-query -W -f '${Package} ${Version}, ${source:Package} ${source:Version}\n' "$@"
  } >"$folder/SOURCES"
}

# stage NAME PROGRAM…: the folder $STAGE/NAME-VERSION.
stage() {
  local folder=$STAGE/$1-$VERSION program from name path paths=() all; shift
  mkdir -p "$folder"/{bin,lib,licenses}
  cp "$SOURCE/LICENSE" "$folder/"
  for program in "$@"; do
    from=$BUILD/bin/$program
    [ -e "$from" ] || from=$BUILD/tests/$program
    [ -e "$from" ] || die "$program is not built"
    strip --strip-unneeded -o "$folder/bin/$program" "$from"
  done
  libraries "$folder"/bin/* >"$STAGE/libraries"
  while read -r name path; do
    path=$(realpath "$path")
    install -m 644 "$path" "$folder/lib/$name"
    paths+=("$path")
  done <"$STAGE/libraries"
  # A library with a search path of its own would not use its program's.
  # shellcheck disable=SC2016
  printf '%s\n' 'foreach(file IN LISTS FILES)' 'file(RPATH_REMOVE FILE "${file}")' 'endforeach()' >"$STAGE/rpath.cmake"
  all=("$folder"/lib/* "$folder"/bin/*.so)
  cmake -DFILES="$(IFS=';'; echo "${all[*]}")" -P "$STAGE/rpath.cmake" >/dev/null
  packages "${paths[@]}" >"$STAGE/packages"
}

# archive NAME: $OUT/NAME-VERSION-linux-x86_64.tar.zst
archive() {
  local file=$OUT/$1-$VERSION-linux-x86_64.tar.zst
  tar -C "$STAGE" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@${SOURCE_DATE_EPOCH:-0}" -c "$1-$VERSION" |
    ZSTD_CLEVEL=${ZSTD_CLEVEL:-19} zstd -q -f -T0 -o "$file.part"
  mv "$file.part" "$file"
  printf '%s: %.1f MB, %.1f MB unpacked\n' "$file" "$(stat -c %s "$file")e-6" "$(du -sb "$STAGE/$1-$VERSION" | cut -f1)e-6"
}

plug_in=()
[ ! -e "$BUILD/bin/libmuster_cuda.so" ] || plug_in=(libmuster_cuda.so)
stage muster launch master worker ps "${plug_in[@]}" "$@"
install -m 644 "$BUILD/built_for.json" "$STAGE/muster-$VERSION/"
install -m 644 -D -t "$STAGE/muster-$VERSION/configs" "$SOURCE"/configs/*.yaml
mapfile -t owners <"$STAGE/packages"
licenses "$STAGE/muster-$VERSION/licenses" "${HEADERS[@]}" "${owners[@]}"
archive muster

stage muster-speech-maker make_speech_data
voices=$(dirname "$(realpath "$(awk '$1 ~ /^libespeak-ng/ {print $2}' "$STAGE/libraries")")")/espeak-ng-data
mkdir "$STAGE/muster-speech-maker-$VERSION/share"
cp -r "$voices" "$STAGE/muster-speech-maker-$VERSION/share/"
mapfile -t owners <"$STAGE/packages"
licenses "$STAGE/muster-speech-maker-$VERSION/licenses" espeak-ng-data "${HEADERS[@]}" "${owners[@]}"
cp /usr/share/common-licenses/GPL-3 "$STAGE/muster-speech-maker-$VERSION/COPYING"
archive muster-speech-maker
