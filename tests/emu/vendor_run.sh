#!/bin/sh
# SPDX-License-Identifier: MIT
# vendor_run.sh MODULE COMMAND...: runs a command where MODULE is found as cuBLASLt and as cuDNN; choices are kept in a folder that goes.
# Fails, too, where the command gave the libraries nothing to do.
set -u
module=$(realpath -e "$1") || exit 1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/libs" "$folder/cache"
: >"$folder/counts"
ln -s "$module" "$folder/libs/libcublasLt.so.13"
ln -s "$module" "$folder/libs/libcudnn.so.9"
shift
export SWD_VENDOR_LIBS="$folder/libs" XDG_CACHE_HOME="$folder/cache" FAKE_VENDOR_COUNTS="$folder/counts"
"$@" || exit 1
[ "$(awk '{ n += $1 + $2 + $3 } END { print n + 0 }' "$folder/counts")" -gt 0 ] || { echo "the libraries did nothing" >&2; exit 1; }
