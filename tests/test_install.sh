#!/bin/sh
# SPDX-License-Identifier: MIT
# What a package would hold: `meson install` of the build ($1, with its prefix $2) into a temporary DESTDIR, then moved elsewhere. The
# program runs from another folder with an empty environment and takes the model that moved with it; the example in swd.h compiles
# against the moved pkg-config file, and so does a program that asks where the model is. usage: test_install.sh BUILD PREFIX BINDIR DATADIR MESON
set -eu
unset LD_LIBRARY_PATH # which meson points at the build
build=$(cd "$1" && pwd) prefix=$2 bin=$3/swd data=$4/swd meson=$5
root=$(cd "${SWD_SOURCE_DIR:-.}" && pwd)
work=$(realpath "$(mktemp -d)")
trap 'rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}
json() { # the field $2 of the file $1
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"
}

DESTDIR=$work/root "$meson" install -C "$build" --no-rebuild >"$work/install.log" 2>&1 || fail "$(cat "$work/install.log")"
mv "$work/root$prefix" "$work/moved"
[ -z "$(find "$work/root" -type f)" ] || fail "outside the prefix: $(find "$work/root" -type f)"
cd "$work/moved"
pc=$(find . -name swd.pc)
[ -n "$pc" ] || fail "no swd.pc"
lib=$(dirname "$(dirname "$pc")")
model=$work/moved/$data/weights/emoji
for f in "$bin" include/swd/swd.h include/swd/status.h include/swd/plot.h include/swd/bench.h include/swd/eval.h include/swd/parallel.h "$lib/libswd.so" "$lib/libswd.so.0" "$model/README.md" "$model/model_index.json" "$model-clip/model.safetensors" "$model-student/swd.json" "$model-student-4/swd.json"; do
    [ -e "$f" ] || fail "no $f"
done
[ ! -e "$build/src/mpi/swd_mpi.so" ] || [ -e "$lib/swd/swd_mpi.so" ] || fail "no swd_mpi.so"
(cd "$root/weights/emoji" && find . -type f) | sort >"$work/want.txt"
(cd "$model" && find . -type f) | sort >"$work/got.txt"
cmp "$work/want.txt" "$work/got.txt" || fail "the bundle is not whole: $(diff "$work/want.txt" "$work/got.txt")"

# The installed model differs from the source tree's, so that the two cannot be mistaken for each other.
echo '{"baseline": {"steps": 3, "guidance": 1, "shift": 3.0}}' >"$model/swd.json"
mkdir "$work/elsewhere"
cd "$work/elsewhere"
env -i "$work/moved/$bin" info --json >info.json || fail "swd info"
[ "$(json info.json model)" = "$model" ] || fail "the model is $(json info.json model), not $model"
trace=
if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then trace="strace -f -e trace=%file -o files.txt"; fi
# shellcheck disable=SC2086
$trace env -i "$work/moved/$bin" generate "a red apple" --seed 1 --size 32x32 --json >student.json || fail "swd generate"
[ "$(json student.json preset)" = student-6 ] || fail "the student is not there"
env -i "$work/moved/$bin" generate "a red apple" --seed 1 --size 32x32 --sampler euler --json >out.json || fail "swd generate --sampler euler"
[ -s out.jpg ] || fail "no picture"
env -i "$work/moved/$bin" eval out.jpg --json >eval.json || fail "swd eval"
[ "$(json eval.json features)" = "$model-clip" ] || fail "the features are $(json eval.json features)"
python3 -c 'import json; o = json.load(open("out.json")); assert len(o["milliseconds"]["denoise"]) == 3, o' || fail "another swd.json"
if [ -n "$trace" ]; then
    grep -q "$model-student/adapter" files.txt || fail "the trace does not show the adapter: $(head files.txt)"
    grep -q "$model/transformer/" files.txt || fail "the trace does not show the model: $(head files.txt)"
    ! grep -F "\"$root/" files.txt || fail "the program looks into the source tree"
    ! grep -F "\"$build/" files.txt || fail "the program looks into the build"
fi

# against the library
export PKG_CONFIG_PATH="$work/moved/${lib#./}/pkgconfig"
flags="$(pkg-config --define-variable=prefix="$work/moved" --cflags --libs swd) -Wl,-rpath,$work/moved/${lib#./}"
! pkg-config --define-variable=prefix="$work/moved" --cflags --libs swd | grep -F "$root" || fail "swd.pc names the source tree"
[ "$(pkg-config --modversion swd)" = "$(env -i "$work/moved/$bin" --version | tr -dc '0-9.')" ] || fail "swd.pc has another version"
# shellcheck disable=SC2086
SWD_SOURCE_DIR=$root "$root/tests/test_example.sh" $flags || fail "the example"
cat >where.c <<'C'
#include <stdio.h>
#include <swd/swd.h>
int main(void)
{
    char dir[4096];
    if (swd_default_model(dir, sizeof dir) != SWD_OK) return 1;
    return puts(dir) < 0;
}
C
# shellcheck disable=SC2086
${CC:-cc} -std=c99 where.c -o where $flags
[ "$(env -i ./where)" = "$model" ] || fail "the library finds $(env -i ./where)"

# once more, in a folder with a blank, through a link to the program
mkdir "$work/an other place"
mv "$work/moved" "$work/an other place/swd"
ln -s "$work/an other place/swd/$bin" swd-link
env -i ./swd-link info --json >info.json || fail "swd through a link"
[ "$(json info.json model)" = "$work/an other place/swd/$data/weights/emoji" ] || fail "the model is $(json info.json model)"

# without a model of its own the library says where it looked, or takes the source tree's
rm -r "$work/an other place/swd/$data"
env -i ./swd-link info --json >info.json || fail "no model in the source tree"
[ "$(json info.json model)" = "$root/weights/emoji" ] || fail "the model is $(json info.json model)"
echo "install: program, library and model work where they were moved to"
