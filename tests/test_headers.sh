#!/bin/sh
# SPDX-License-Identifier: MIT
# Each header compiles alone: the public ones as C99 and as C++, those of src/host as C17.
cd "${SWD_SOURCE_DIR:-.}" || exit 1
cc=${CC:-cc} cxx=${CXX:-c++}
bad=0
alone() { # header, command...
    h=$1
    shift
    echo "#include \"$h\"" | "$@" -Wall -Wextra -Werror -fsyntax-only - || { echo "$h does not compile alone: $*"; bad=1; }
}
command -v "$cxx" >/dev/null || { echo "no C++ compiler ($cxx)"; exit 1; }
for h in include/swd/*.h; do
    alone "swd/${h##*/}" $cc -xc -std=c99 -pedantic -Iinclude
    alone "swd/${h##*/}" $cxx -xc++ -std=c++11 -Iinclude
done
for h in $(find src/host -name '*.h'); do
    alone "${h#src/host/}" $cc -xc -std=gnu17 -D_GNU_SOURCE -Wno-unused-function -Iinclude -Isrc/host
done
exit $bad
