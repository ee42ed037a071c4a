#!/usr/bin/env bash
# migrations.sh: A2: fibers that change their worker over and over read errno, a thread_local,
# gettid(), their worker and how they round correctly, whatever a compiler made of the library.
#
# Always true:
#   - As a test it runs the program of its own build, which moves by name (or at every park, in a
#     build with COIR_FORCE_MIGRATION).
#   - With MIGRATIONS=N it builds the library in which every park migrates, by each compiler at -O2
#     and at -O3 -flto, and lets each of the four (or those named in BUILDS) make N migrations.
#     No function in them keeps an address of its thread over a switch (tls_across.cpp).
#   - All of them or a failure: what is missing for one is named, with what to install.
#
# Comes from: ctest, ./dev migrate.   Goes to: migrations.cpp, tls_across.cpp, the preset migrate.
set -u
each=${MIGRATIONS_EACH:-20000}
if [[ -z ${MIGRATIONS:-} ]]; then
  timeout 100 "${BUILD_DIR:?}/tests/migrations" "$each" || { echo "failed ($?)"; exit 1; }
  exit 0
fi

# try COMPILERS NAME FLAGS [MORE...]: configures (with more of cmake's), builds and runs one
# combination.
try() {
  local cxx=$1 cc=$2 name=$3 flags=$4
  shift 4
  local dir=${BUILD_DIR:?}/$name
  cmake -S "${SOURCE_DIR:?}" --preset migrate -B "$dir" -DCMAKE_BUILD_TYPE=None \
    -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_CXX_FLAGS="$flags" -DCMAKE_C_FLAGS="$flags" "$@" >"$dir.log" 2>&1 &&
    cmake --build "$dir" --target migrations >>"$dir.log" 2>&1 ||
    { echo "$name does not build:"; tail -n 30 "$dir.log"; return 1; }
  echo -n "$name ($flags): "
  timeout 300 "$dir/tests/migrations" "$MIGRATIONS" || return 1
  # The library and its user in one file, however much of them the compiler has merged.
  objdump -d --no-show-raw-insn "$dir/tests/migrations" | "$BUILD_DIR/tls_across"
}

missing=0
# has PROGRAM PACKAGE: says what to install when PROGRAM is not there.
has() {
  command -v "$1" >/dev/null || { echo "no $1: apt-get install $2"; missing=1; }
}
has g++ g++
has clang++ clang
has ld.lld lld
# It stands beside clang, under the name that this clang knows.
archiver=$(clang++ -print-prog-name=llvm-ar 2>/dev/null)
has "${archiver:-llvm-ar}" llvm
((missing == 0)) || exit 1

mkdir -p "${BUILD_DIR:?}"
programs=${SOURCE_DIR:?}/tests/programs
g++ -std=c++20 -O1 -I"$SOURCE_DIR" "$programs/tls_across.cpp" -o "$BUILD_DIR/tls_across" || exit 1
passed=0 failed=0
one() {
  [[ -z ${BUILDS:-} || " $BUILDS " == *" $3 "* ]] || return 0
  if try "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
one g++ gcc gcc_O2 "-O2"
one g++ gcc gcc_O3_lto "-O3 -flto"
one clang++ clang clang_O2 "-O2"
one clang++ clang clang_O3_lto "-O3 -flto" -DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=lld \
  -DCMAKE_AR="$archiver" -DCMAKE_RANLIB="${archiver/llvm-ar/llvm-ranlib}"
echo "$passed combinations passed, $failed failed"
((failed == 0 && passed > 0))
