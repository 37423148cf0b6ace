#!/bin/bash
# SPDX-License-Identifier: MIT
# The program as scripts see it: exit statuses, one-line errors, files, JSON. usage: cli.sh PROGRAM (default build/swd)
set -u
swd=$(realpath "${1:-${SWD_PROGRAM:-build/swd}}")
root=$(realpath "${SWD_SOURCE_DIR:-$(dirname "$0")/../..}")
goldens=$root/tests/goldens/pipeline
[ -x "$swd" ] || { echo "no program $swd"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

bad() { echo "FAILED: $*"; failures=$((failures + 1)); }

# expect STATUS 'PART OF STDERR' ARGS...: a failure is exactly one line that starts with swd: error:
expect() {
    local status=$1 part=$2
    shift 2
    "$swd" "$@" >out.txt 2>err.txt
    local got=$?
    [ $got = "$status" ] || bad "swd $* exits with $got, not $status: $(cat err.txt)"
    [ -z "$part" ] && return
    grep -qF -- "$part" err.txt || bad "swd $*: stderr lacks '$part': $(cat err.txt)"
    [ "$status" = 0 ] && return
    [ "$(wc -l <err.txt)" = 1 ] || bad "swd $*: more than one line: $(cat err.txt)"
    [ "$(head -c 12 err.txt)" = "swd: error: " ] || bad "swd $*: $(cat err.txt)"
}
fast=(--preset sd3.5-medium-4 --size 32x32 --max-tokens 16)

# help, version, wrong calls
expect 0 "" --version
expect 0 "" help
for c in generate tokenize encode decode info presets spectrum eval bench; do
    expect 0 "" $c --help
    head -1 out.txt | grep -q "^  swd $c" || bad "help of $c does not start with an example"
    expect 0 "" help $c
done
expect 2 "no command"
expect 2 "no such command" paint
expect 2 "no prompt" generate
expect 2 "--size" generate x --size 12
expect 2 "multiples of 16" generate x --size 100x100
expect 2 "no such option" generate x --colour red
expect 2 "needs a value" generate x --seed
expect 2 "--seed" generate x --seed -1
expect 2 "--steps" generate x --steps 0
expect 2 "suffix" generate x -o out.gif
expect 2 "pattern" generate x -o out%s.png
expect 2 "excl" generate x --preset sd3.5-medium-4 --scales 4,16 --sigmas 1,.6
expect 2 "scale" generate x --scales 16,4 --sigmas 1,.6
expect 2 "--strength" generate x --strength .5
expect 2 "--text-encoders" generate x --text-encoders clip_x
expect 2 "preset" generate x --preset none-such
expect 1 "sdxl-4" generate x --preset sdxl-4
expect 1 "no such folder" generate x -m /nowhere
expect 1 "no such file" generate x --init /nowhere.png
expect 1 "no such file" generate x --lora /nowhere
expect 1 "cuda" generate x --device cuda:999
expect 2 "cudax" generate x --device cudax
mkdir wide # a tokenizer that is larger than its encoder
ln -s "$root"/weights/emoji/* wide/
rm wide/tokenizer
ln -s "$root/tests/data/vocab/tokenizer" wide/tokenizer
expect 1 "outside of its vocabulary of 2048" generate "a cat" -m wide "${fast[@]}"
rm -r wide
expect 2 "--size" generate x --size "32x 32"
expect 2 "--size" generate x --size +32x32
expect 2 "--lora a=b" generate x --lora a=b
expect 2 "--seed" generate x --seed 9223372036854775807 -n2
expect 2 "UTF-8" generate x --json -o $'\xff.png'
expect 2 'a\x0ab' generate x -o $'a\nb.gif'
expect 2 'a\x0ab' $'a\nb'
expect 1 "folder" generate x -o nowhere/out.jpg
expect 1 "/nowhere" generate --prompts /nowhere
expect 2 "UTF-8" generate $'\xff\xfe'
# what cannot be written is known before the work
mkdir lies.png
expect 2 "pattern" generate x -o o%.png
expect 2 "pattern" generate x -o o%d%d.png
expect 1 "lies.png: a folder" generate x -o lies.png
expect 1 "there is no folder d0" generate x -o d%d/x.png
expect 1 "a folder" generate x --init lies.png
expect 1 "lies.png: cannot be written" generate x --save-latents lies.png
expect 1 "nowhere/l: cannot be written" generate x --save-latents nowhere/l
expect 1 "cannot be made" generate x --save-scales err.txt
rmdir lies.png
[ -z "$(ls -A | grep -v '.txt$')" ] || bad "files are left behind: $(ls -A)"

# an option that a command takes is in its help; eval's sends to generate's
for c in generate encode decode info bench; do
    "$swd" $c --help >help.txt
    for option in --tune --verbose --offload --no-offload --embeds-cache --mix --dataset --device --json; do
        "$swd" $c $option ours --none 2>err.txt
        grep -q "^swd: error: $option: no such option" err.txt || grep -q -- "$option" help.txt || bad "swd $c --help lacks $option"
    done
done
rm help.txt

# the bundled model draws as its student, until something is said about model or sampling
preset() { "$swd" generate "a dog" --seed 1 --size 32x32 -o dog.png --json "$@" 2>err.txt | grep -o '"preset": "[^"]*"'; }
[ "$(preset)" = '"preset": "student-6"' ] || bad "the bundled student does not draw: $(preset)"
[ "$(preset --steps 2)" = '"preset": "euler"' ] || bad "--steps is for the teacher: $(preset --steps 2)"
[ "$(preset --rng torch)" = '"preset": "euler"' ] || bad "--rng torch, diffusers' picture, is for the teacher"
[ "$(preset -m "$root/weights/emoji" --steps 2)" = '"preset": "euler"' ] || bad "a named model gets an adapter"
rm -f dog.png

# another family
mkdir other && echo '{"_class_name": "PixArtAlphaPipeline"}' >other/model_index.json
expect 1 "PixArtAlphaPipeline" generate x -m other

# files
expect 0 "" generate "a red apple" "${fast[@]}" --seed 1
[ "$(head -c 3 out.jpg | od -An -tx1 | tr -d ' ')" = ffd8ff ] || bad "out.jpg is no JPEG"
[ "$(cat out.txt)" = out.jpg ] || bad "stdout is not the name"
grep -aq "a red apple" out.jpg || bad "out.jpg does not carry its prompt"
expect 0 "" generate "a dog" "" "${fast[@]}" --seed 1 -n2 -o pet.png
for i in 0 1 2 3; do [ -s pet-000$i.png ] || bad "no pet-000$i.png"; done
expect 0 "" generate "a dog" "${fast[@]}" --seed 3 -o p%03d.png
[ -s p000.png ] || bad "no p000.png"
expect 0 "" generate "a dog" "${fast[@]}" --seed 3 -o 'half%%-%d.png'
[ "$(cat out.txt)" = half%-0.png ] && [ -s half%-0.png ] || bad "no half%-0.png"
printf 'a dog\n\n  a cat \n' >list.txt
expect 0 "" generate --prompts - "${fast[@]}" --seed 1 -o l.png --json <list.txt
expect 0 "swd: seed" generate "a dog" "${fast[@]}"
# what is there already is left out, the rest is what it would have been
expect 0 "3 pictures, " generate "a dog" "a cat" "a fish" "${fast[@]}" --batch 1 --seed 7 -o 'res-%d.png'
[ "$(wc -l <out.txt)" = 3 ] || bad "three pictures: $(cat out.txt)"
mv res-1.png kept.png
cp res-2.png other.png
expect 0 "2 of 3 pictures were there already" generate "a dog" "a cat" "a fish" "${fast[@]}" --batch 1 --seed 7 -o 'res-%d.png' --resume
[ "$(cat out.txt)" = res-1.png ] || bad "resume made $(cat out.txt)"
cmp -s res-1.png kept.png || bad "a resumed picture is another one"
expect 0 "3 of 3 pictures were there already" generate "a dog" "a cat" "a fish" "${fast[@]}" -o 'res-%d.png' --resume --json
grep -q '"images": \[\]' out.txt || bad "nothing to resume: $(cat out.txt)"
cmp -s res-2.png other.png || bad "resume made what was there"
expect 2 "resume" generate "a dog" "${fast[@]}" -o res.png --resume --save-latents l.safetensors

expect 0 "" generate "a dog" "${fast[@]}" --seed 5 -o j.png --json --save-latents j.safetensors --save-scales scales
python3 - out.txt <<'PY' || bad "the JSON of generate: $(cat out.txt)"
import json, sys
o = json.load(open(sys.argv[1]))
assert o["images"] == [{"file": "j.png", "seed": 5, "prompt": "a dog", "width": 32, "height": 32}]
assert o["preset"] == "sd3.5-medium-4" and len(o["sigmas"]) == 5 and o["sizes"][-1] == [4, 4]
assert len(o["milliseconds"]["denoise"]) == 4 and o["milliseconds"]["total"] > 0 and o["peak_memory_bytes"] > 0
PY
[ "$(ls scales | wc -l)" = 4 ] || bad "scales: $(ls scales)"
expect 0 "" generate "a dog" "${fast[@]}" --seed 5 -o j2.png
cmp -s j.png j2.png || bad "the same seed gives other bytes"
expect 0 "" generate "a dog" "${fast[@]}" --seed 5 -o j3.png --offload --embeds-cache embeds
cmp -s j.png j3.png || bad "other bytes with --offload"
[ "$(ls embeds | wc -l)" = 1 ] || bad "embeds: $(ls embeds)"
expect 0 "" generate "a dog" "${fast[@]}" --seed 5 -o j4.png --no-offload --embeds-cache embeds
cmp -s j.png j4.png || bad "other bytes with embeddings from files"
truncate -s -8 embeds/*
expect 0 "1 damaged" generate "a dog" "${fast[@]}" --seed 5 -o j5.png --embeds-cache embeds
cmp -s j.png j5.png || bad "other bytes beside a damaged file"
expect 1 "embeds cache nowhere/embeds" generate "a dog" "${fast[@]}" -o j6.png --embeds-cache nowhere/embeds
expect 0 "" generate "a dog" "${fast[@]}" --seed 5 -o i.png --init j.png --strength .8
# steps of several pictures in one pass, or a note that says why not
"$swd" generate "a dog" "a cat" "${fast[@]}" --seed 5 -o 'mix-%d.png' --mix >out.txt 2>err.txt || bad "--mix: $(cat err.txt)"
grep -q "not mixed" err.txt && bad "--mix: $(cat err.txt)"
why() { expect 0 "steps are not mixed: $1" generate "a dog" --seed 5 -o not.png --mix --max-tokens 16 --size 32x32 "${@:2}"; }
why "only a scale-wise schedule" --sampler euler --steps 1
why "only a scale-wise schedule" "${fast[@]:0:2}" --init j.png
why "only a scale-wise schedule" "${fast[@]:0:2}" --guidance 3
why "torch's noise" "${fast[@]:0:2}" --rng torch
why "somebody looks" "${fast[@]:0:2}" --save-latents not
why "networks take turns" "${fast[@]:0:2}" --offload
why "too many steps or images" "${fast[@]:0:2}" -n 17 --batch 17 -o 'not-%d.png'

# the calls of the goldens, with files: diffusers' latents
as_diffusers() { # GOLDEN ARGS...
    local golden=$goldens/$1.safetensors
    shift
    expect 0 "" generate "$@" --rng torch --precision f32 --max-tokens 16 --save-latents g.safetensors -o g.png
    python3 "$root/tests/cli/latents.py" g.safetensors "$golden" || bad "swd generate $*: not diffusers' latents"
}
apple=("a red apple, 3d emoji" --preset sd3.5-medium-6 --seed 7)
as_diffusers lora_peft "${apple[@]}" --lora "$goldens/lora_peft"
as_diffusers lora_both "${apple[@]}" --lora "$goldens/lora_peft/=.5" \
    --lora "$goldens/lora_diffusers/pytorch_lora_weights.safetensors=-1.25"
as_diffusers vae_tiny "${apple[@]}" --size 64x64 --vae-tiny "$goldens/tiny_vae"
as_diffusers init_scalewise "a green apple, 3d emoji" --preset sd3.5-medium-6 --seed 21 --init "$goldens/init.png" --strength .8
as_diffusers init_euler "a green apple, 3d emoji" -n 2 --steps 8 --seed 21 --init "$goldens/init.png" --strength .6

# the other commands
expect 0 "" decode j.safetensors -o d.png
expect 0 "" encode d.png -o d.safetensors
expect 2 "usage" encode d.png
expect 1 "d.png" decode d.png -o e.png
expect 1 "j.safetensors" encode j.safetensors -o e.safetensors
expect 0 "" tokenize "a dog"
python3 -c 'import json; o = json.load(open("out.txt")); assert [len(o[k]) for k in ("tokenizer", "tokenizer_2", "tokenizer_3")] == [16] * 3' ||
    bad "tokenize: $(cat out.txt)"
expect 0 "" tokenize --prompts list.txt
[ "$(wc -l <out.txt)" = 3 ] || bad "tokenize --prompts: $(cat out.txt)"
expect 0 "" info
expect 0 "" info --json
python3 -m json.tool out.txt >/dev/null || bad "info --json"
expect 0 "" presets
grep -q "sd3.5-medium-6" out.txt && grep -q ".945387" out.txt || bad "presets: $(cat out.txt)"

# a standard output that cannot be written is an error of every command, and closed streams are no files
for c in help --version presets "info --device cpu" "presets --json" "tokenize x" "generate --help"; do
    "$swd" $c >/dev/full 2>err.txt && bad "swd $c to a full disk passes"
    [ "$(wc -l <err.txt)" = 1 ] && grep -q "^swd: error: standard output" err.txt || bad "swd $c: $(cat err.txt)"
done
"$swd" presets >&- 2>err.txt && bad "a closed standard output passes"
"$swd" generate "a dog" "${fast[@]}" --seed 5 -o closed.png >&- 2>&- <&-
cmp -s j.png closed.png || bad "closed streams change the picture"

# a long list takes no more memory than a short one; 8 MB are the buffer that writes the latents. (AddressSanitizer would keep 256 MB
# of freed memory from being used again.)
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1:thread_local_quarantine_size_kb=64"
peak() { python3 -c 'import json; print(json.load(open("out.txt"))["peak_memory_bytes"])'; }
mkdir long
for n in 16 400; do
    yes 'a dog' | head -$n >long.txt
    expect 0 "" generate --prompts long.txt --scales 16 --sigmas 1 --max-tokens 4 --text-encoders clip_l --vae-tiny "$goldens/tiny_vae" \
        --seed 1 -o long/%d.jpg --save-latents long/l --json
    eval "peak_$n=$(peak)"
done
[ $((peak_400 - peak_16)) -lt 12000000 ] || bad "400 pictures take $peak_400 bytes, 16 take $peak_16"
python3 "$root/tests/cli/latents.py" long/l long/l || bad "the latents of a long list"

# Ctrl-C: no file, status 1
"$swd" generate "a dog" -n 500 --sampler euler --seed 1 -o cc/%d.png 2>/dev/null && bad "a missing folder passed"
mkdir cc
"$swd" generate "a dog" -n 2000 --sampler euler --steps 200 --seed 1 -o cc/%d.png >/dev/null 2>cc.txt &
pid=$!
sleep 1
kill -INT $pid
wait $pid
[ $? = 1 ] || bad "an interrupted call does not exit with 1"
grep -q "cancelled" cc.txt || bad "an interrupted call says: $(cat cc.txt)"
[ -z "$(find cc -type f ! -name '*.png')" ] || bad "half-written: $(ls cc)"

[ $failures = 0 ] && echo "cli: all as promised"
exit $((failures > 0))
