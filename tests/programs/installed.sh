#!/bin/bash
# installed.sh: an installed coir is found and used by CMake and by pkg-config, from C++ and from C.
#
# Always true:
#   - The installed tree is moved before it is used, so nothing may remember where it was installed.
#   - Nothing of the source tree but the consumer's own files is seen, and no root is needed.
#   - Each program is asked which libraries it loads: static means no libcoir.so, and nobody loads
#     the shared liburing.
#
# Comes from: ctest.   Goes to: cmake/coir_install.cmake, tests/consumer.
set -euo pipefail
setting() { sed -n "s/^$1:[A-Z]*=//p" "$BUILD_DIR/CMakeCache.txt"; }
[[ -z $(setting COIR_SANITIZE) ]] || { echo "a sanitized library is not for users"; exit 77; }
command -v pkg-config >/dev/null || { echo "no pkg-config"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc=$(setting CMAKE_C_COMPILER)
cxx=$(setting CMAKE_CXX_COMPILER)
consumer=$SOURCE_DIR/tests/consumer

cmake --install "$BUILD_DIR" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/moved"
libdir=$(dirname "$(find "$work/moved" -name libcoir.a)")

# loads NAME yes|no PROGRAM: whether the program loads the shared library of that name.
loads() {
  local found=no all
  all=$(LD_LIBRARY_PATH=$libdir ldd "$3")
  [[ $all != *"$1.so"* ]] || found=yes
  [[ $found == "$2" ]] || { echo "${3##*/} loads $1: $found, expected $2"; exit 1; }
}

# works PROGRAM SHARED: runs it; SHARED says whether it must load libcoir.so.
works() {
  loads libcoir "$2" "$1"
  loads liburing no "$1"
  [[ $(LD_LIBRARY_PATH=$libdir "$1") == answered ]] || { echo "${1##*/} did not answer"; exit 1; }
  echo "works: ${1##*/}"
}

# By the generator of this build: it is there, and a bare system has no make(1).
cmake -S "$consumer" -B "$work/cmake" -G "$(setting CMAKE_GENERATOR)" \
  -DCMAKE_PREFIX_PATH="$work/moved" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" >/dev/null
grep -q "^coir_DIR:PATH=$work/moved" "$work/cmake/CMakeCache.txt"
cmake --build "$work/cmake" >/dev/null
works "$work/cmake/with_static" no
works "$work/cmake/with_shared" yes

export PKG_CONFIG_PATH=$libdir/pkgconfig
# Words of its own: flags are separate arguments.
read -r -a flags < <(pkg-config --cflags --libs coir)
"$cxx" -std=c++20 "$consumer/main.cpp" "$consumer/answer.cpp" "${flags[@]}" -o "$work/pkg_cxx"
"$cc" -std=c11 "$consumer/main.c" "$consumer/answer.c" "${flags[@]}" -o "$work/pkg_c"
works "$work/pkg_cxx" yes
works "$work/pkg_c" yes

# Without the shared library -lcoir means the static one, which needs what --static adds.
rm "$libdir"/libcoir.so*
read -r -a flags < <(pkg-config --static --cflags --libs coir)
"$cxx" -std=c++20 "$consumer/main.cpp" "$consumer/answer.cpp" "${flags[@]}" -o "$work/static_cxx"
"$cc" -std=c11 "$consumer/main.c" "$consumer/answer.c" "${flags[@]}" -o "$work/static_c"
works "$work/static_cxx" no
works "$work/static_c" no
