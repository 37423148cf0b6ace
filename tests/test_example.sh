#!/bin/sh
# SPDX-License-Identifier: MIT
# The program at the head of swd.h compiles with the flags given, runs and writes its picture.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$(cd "${SWD_SOURCE_DIR:-.}" && pwd)
sed -n '/^ \*     #include <stdio.h>/,/^ \*     }/s/^ \*     \{0,1\}//p' "$root/include/swd/swd.h" >"$work/example.c"
grep -q 'int main' "$work/example.c"
cd "$work"
# shellcheck disable=SC2086
${CC:-cc} -std=c99 example.c -o example "$@"
./example
test -s apple.jpg
