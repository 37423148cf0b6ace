#!/bin/sh
# SPDX-License-Identifier: MIT
# The program at the head of swd.h compiles, links to the library ($1) and writes its picture.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$(cd "${SWD_SOURCE_DIR:-.}" && pwd)
lib=$(dirname "$(realpath "$1")")
sed -n '/^ \*     #include <stdio.h>/,/^ \*     }/s/^ \*     \{0,1\}//p' "$root/include/swd/swd.h" >"$work/example.c"
grep -q 'int main' "$work/example.c"
cd "$work"
${CC:-cc} -std=c99 -I"$root/include" example.c -o example -L"$lib" -lswd -Wl,-rpath,"$lib"
./example
test -s apple.jpg
