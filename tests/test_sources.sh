#!/bin/sh
# SPDX-License-Identifier: MIT
# Every source file is built by something: it stands, with its path or alone, with or without its suffix, in quotes in a meson.build of
# its folder or of one above. (The lists are written by hand: a file that nobody lists would be a file that nobody compiles.)
cd "${SWD_SOURCE_DIR:-.}" || exit 1
bad=0 n=0
listed() { # path of a file
    path=$1 dir=$(dirname "$1") base=$(basename "$1")
    while :; do
        rel=$path
        [ "$dir" = . ] || rel=${path#"$dir"/}
        [ -f "$dir/meson.build" ] &&
            grep -qF -e "'$rel'" -e "'${rel%.*}'" -e "'$base'" -e "'${base%.*}'" "$dir/meson.build" && return 0
        [ "$dir" = . ] && return 1
        dir=$(dirname "$dir")
    done
}
for f in $(find src tools tests bench -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.cu' | sort); do
    n=$((n + 1))
    listed "$f" || { echo "$f: in no meson.build"; bad=1; }
done
[ $n -gt 50 ] || { echo "only $n sources found: not the source tree?"; bad=1; }
[ $bad = 0 ] && echo "sources: all $n are listed"
exit $bad
