#!/bin/bash
# SPDX-License-Identifier: MIT
# The program in the header's first comment compiles, runs and writes its picture. usage: test_example.sh LIBRARY_DIR (default build/src)
set -eu
source=$(realpath "${SWD_SOURCE_DIR:-.}")
library=$(realpath "${1:-${SWD_LIBRARY_DIR:-build}}")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
sed -n '/^ \*     #include/,/^ \*     }$/s/^ \* \{0,5\}//p' "$source/include/swd/swd.h" >"$dir/example.c"
grep -q 'int main' "$dir/example.c"
"${CC:-cc}" -Wall -Wextra -Werror -I"$source/include" "$dir/example.c" -o "$dir/example" -L"$library" -lswd -Wl,-rpath,"$library"
cd "$dir"
./example
test -s apple.jpg
echo "example: it made $(wc -c <apple.jpg) bytes"
