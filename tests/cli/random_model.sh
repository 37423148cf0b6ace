#!/bin/sh
# SPDX-License-Identifier: MIT
# random_model makes folders that the program runs: the tiny shape from prompt to picture, with and without T5; same seed, same bytes.
# $1: random_model, $2: swd
set -eu
maker=$1 swd=$2
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}
make() { # folder, options...
    folder=$1
    shift
    "$maker" tiny "$out/$folder" --tokenizers "$SWD_SOURCE_DIR/tests/data/vocab" "$@" 2>"$out/log" || fail "making $folder: $(cat "$out/log")"
}
run() { # folder: DIR.latents and a picture, which names its folder
    "$swd" generate -m "$out/$1" "a red apple" --seed 3 --steps 2 -o "$out/$1.png" --save-latents "$out/$1.latents" \
        >/dev/null 2>"$out/log" || fail "running $1: $(cat "$out/log")"
}
weights=transformer/diffusion_pytorch_model.safetensors

make a --t5
run a
make b --t5 --seed 1
cmp -s "$out/a/$weights" "$out/b/$weights" || fail "the same seed gives other weights"
run b
cmp -s "$out/a.latents" "$out/b.latents" || fail "the same weights give other latents"
make c --seed 2 --dtype f16
cmp -s "$out/a/$weights" "$out/c/$weights" && fail "another seed gives the same weights"
run c
cmp -s "$out/a.latents" "$out/c.latents" && fail "other weights give the same latents"
grep -q '"text_encoder_3"' "$out/c/model_index.json" && [ ! -e "$out/c/text_encoder_3" ] || fail "T5 was not asked for"
"$swd" info -m "$out/a" --json | grep -q '"parameters": 498112' || fail "the tiny transformer has other parameters"

"$maker" tiny-flux "$out/f" --tokenizers "$SWD_SOURCE_DIR/tests/data/vocab" --t5 2>"$out/log" || fail "making f: $(cat "$out/log")"
"$swd" generate -m "$out/f" "a red apple" --seed 3 --preset flux-4 --size 64x48 --max-tokens 16 -o "$out/f.png" >/dev/null 2>"$out/log" ||
    fail "running f: $(cat "$out/log")"
"$swd" info -m "$out/f" | grep -q "2 double and 2 single blocks" || fail "the tiny FLUX is not told as such"

status=0
"$maker" sd4 "$out/d" --tokenizers x 2>/dev/null || status=$?
[ $status = 2 ] || fail "an unknown shape is status $status"
status=0
"$maker" tiny "$out/d" --tokenizers "$out/nowhere" 2>/dev/null || status=$?
[ $status = 1 ] && [ ! -e "$out/d/model_index.json" ] || fail "a missing tokenizer is status $status"
echo "random_model: tiny folders run, reproducibly"
