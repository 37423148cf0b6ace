#!/bin/sh
# SPDX-License-Identifier: MIT
# From a prompt list to data for training, taken up where they were left. $1: swd
set -eu
swd=$1
export OMP_NUM_THREADS=1 # steps of milliseconds
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    cat "$out/log"
    exit 1
}
how="generate --prompts $out/prompts -n 2 --dataset $out/d --steps 1 --sampler euler --guidance 1 --batch 1"
data() { # options...
    # shellcheck disable=SC2086
    "$swd" $how "$@" >"$out/made" 2>"$out/log"
}

# ---- data ----
printf '%s\n' 'a red apple, 3d emoji' 'a "quoted" cat' '' >"$out/prompts"
data -o '%03d.png' || fail "generate --dataset"
cat >"$out/expected" <<'CSV'
index,file_name,caption
0,"000.png","a red apple, 3d emoji"
1,"001.png","a red apple, 3d emoji"
2,"002.png","a ""quoted"" cat"
3,"003.png","a ""quoted"" cat"
4,"004.png",""
5,"005.png",""
CSV
cmp -s "$out/expected" "$out/d/metainfo.csv" || fail "metainfo.csv: $(cat "$out/d/metainfo.csv")"
[ "$(wc -l <"$out/made")" = 6 ] || fail "six pictures are named"
cp "$out/d/003.png" "$out/third.png"
rm "$out/d/003.png" "$out/d/metainfo.csv"
data -o '%03d.png' || fail "going on"
[ "$(cat "$out/made")" = "$out/d/003.png" ] || fail "the missing one alone is made: $(cat "$out/made")"
cmp -s "$out/third.png" "$out/d/003.png" || fail "made again it is another picture"
cmp -s "$out/expected" "$out/d/metainfo.csv" || fail "metainfo.csv after going on"
# killed in between: what is listed is there, and the next call makes the rest
rm "$out"/d/*
# shellcheck disable=SC2086
"$swd" $how -o '%03d.png' >/dev/null 2>&1 & # a picture takes some tens of milliseconds
pid=$!
while [ ! -e "$out/d/001.png" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
tail -n +2 "$out/d/metainfo.csv" | cut -d'"' -f2 | while read -r f; do [ -e "$out/d/$f" ] || fail "$f is listed and not there"; done
data -o '%03d.png' || fail "after a kill"
cmp -s "$out/expected" "$out/d/metainfo.csv" || fail "metainfo.csv after a kill"
cp "$out/prompts" "$out/right"
echo 'another prompt' >"$out/prompts"
if data -o '%03d.png'; then fail "other prompts were taken"; fi
grep -q 'is of other prompts' "$out/log" || fail "other prompts: $(cat "$out/log")"
cp "$out/right" "$out/prompts"
for wrong in 'x.png' 'a/%d.png' '%d%d.png' '%d.bmp' '%x.png' '%%.png' '%999999999d.png'; do
    if data -o "$wrong"; then fail "-o $wrong was taken"; fi
    grep -q '^swd: error: ' "$out/log" || fail "-o $wrong: $(cat "$out/log")"
    cmp -s "$out/expected" "$out/d/metainfo.csv" || fail "-o $wrong has changed metainfo.csv"
done

# ---- training ----
learn() { # folder, options...
    folder=$1
    shift
    "$swd" train --data "$out/d" --output "$out/$folder" --cache "$out/cache" --scales 4,6 --sigmas 1,.8 --batch 2 --lora-rank 2 \
        --learning-rate 1e-3 --log-every 1 "$@" >"$out/made" 2>"$out/log"
}
same() { cmp -s "$out/$1/result/$3" "$out/$2/result/$3" || fail "$1 and $2 differ in $3"; }
learn whole --steps 4 --sample-every 4 || fail "train"
[ "$(cat "$out/made")" = "$out/whole/result" ] || fail "the result's folder is printed"
grep -q '6 pictures with captions' "$out/log" || fail "the pictures are counted"
for f in config.json log.jsonl loss.svg samples/step-00000004.png result/adapter_config.json result/swd.json; do
    [ -s "$out/whole/$f" ] || fail "$f is not there"
done
"$swd" generate "a red apple" --lora "$out/whole/result" --seed 1 --json -o "$out/a.png" >"$out/json" 2>"$out/log" || fail "generate --lora"
grep -q '"preset": "student-2"' "$out/json" || fail "the adapter's schedule is used"
learn parts --steps 4 --checkpoint-every 1 --minutes 1e-9 || fail "a time limit"
[ ! -s "$out/made" ] || fail "no result is named before the end"
grep -q '1 of 4 steps are done; --resume goes on' "$out/log" || fail "what is left is told"
if learn parts --steps 4; then fail "a folder with checkpoints was taken"; fi
if learn parts --steps 4 --resume --lora-rank 3; then fail "another rank was taken"; fi
grep -q 'was trained with lora_rank 2, now it is 3' "$out/log" || fail "another rank is told"
learn parts --steps 4 --resume || fail "--resume"
same whole parts adapter_model.safetensors
# the network that was trained is the one that generates: a sheet of one prompt is that picture
echo 'a dog' >"$out/one"
learn sheet --steps 2 --sample-every 2 --sample-prompts "$out/one" || fail "a sheet"
mkdir "$out/e1" "$out/e2"
cp "$out/sheet/samples/step-00000002.png" "$out/e1/x.png"
"$swd" generate "a dog" --lora "$out/sheet/result" --seed 0 --size 48x48 -o "$out/e2/x.png" >/dev/null 2>"$out/log" || fail "the sheet's picture"
"$swd" eval "$out/e1" --reference "$out/e2" --json >"$out/json" 2>"$out/log" || fail "comparing the two"
python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["metrics"]["psnr"]["value"] < 40)' <"$out/json" || fail "the sheet is another picture: $(cat "$out/json")"
# killed, and stopped by Ctrl-C, somewhere; in the end it is as if it had been left alone
learn long --steps 20 || fail "a longer one"
"$swd" train --config "$out/whole/config.json" --output "$out/cut" --steps 20 --checkpoint-every 3 --sample-every 0 >/dev/null 2>&1 &
pid=$!
while [ ! -e "$out/cut/checkpoints/step-00000003" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
"$swd" train --config "$out/cut/config.json" --resume >/dev/null 2>"$out/log" &
pid=$!
while [ "$(wc -l <"$out/cut/log.jsonl")" -lt 12 ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
kill -INT $pid 2>/dev/null || true
if wait $pid; then echo "# it was done before Ctrl-C came"; else
    grep -q 'has it all, --resume goes on' "$out/log" || fail "Ctrl-C"
fi
"$swd" train --config "$out/cut/config.json" --resume >/dev/null 2>"$out/log" || fail "after Ctrl-C"
same long cut adapter_model.safetensors
[ "$(wc -l <"$out/cut/log.jsonl")" = 20 ] || fail "each step has one line"
mkdir "$out/taken"
if flock "$out/taken/lock" "$swd" train --config "$out/whole/config.json" --output "$out/taken" >/dev/null 2>"$out/log"; then
    fail "a folder where another process trains was taken"
fi
grep -q 'another process trains in' "$out/log" || fail "who has the folder is told"
# the other modes, and a stop in between
full="--mode full --fake-updates 2 --micro-batch 1 --ema .9 --caption-dropout .3"
# shellcheck disable=SC2086
learn full $full --steps 2 || fail "train --mode full"
# shellcheck disable=SC2086
learn cutfull $full --steps 1 && learn cutfull $full --steps 2 --resume || fail "train --mode full --resume"
same full cutfull adapter_model.safetensors
grep -q '"dmd":.*"gan":.*"fake":.*"discriminator":' "$out/full/log.jsonl" || fail "the losses of the full mode are told"
# another loss, from an adapter that is there
learn on --init-lora "$out/whole/result" --learning-rate 0 --steps 1 || fail "train --init-lora"
same whole on adapter_model.safetensors
if learn on --init-lora "$out/full/result" --learning-rate 0 --steps 2 --resume; then fail "another start was taken"; fi
learn on --init-lora "$out/nowhere" && fail "no adapter was taken" || [ $? = 2 ] || fail "no adapter: another exit status"
"$swd" train --data "$out/d" --output "$out/flow" --mode flow-matching --weights whole --scales 4 --steps 1 --batch 2 >"$out/made" 2>"$out/log" ||
    fail "train --mode flow-matching"
"$swd" generate "a dog" -m "$out/flow/result" --steps 1 -o "$out/b.png" >/dev/null 2>"$out/log" || fail "the model that was fine-tuned"
"$swd" train --data "$out/d" --output "$out/tuned" --mode flow-matching --lora-rank 2 --scales 4 --steps 1 --batch 2 >"$out/made" 2>"$out/log" ||
    fail "train --mode flow-matching with an adapter"
"$swd" generate "a dog" --lora "$out/tuned/result" --steps 1 --json -o "$out/b.png" 2>"$out/log" | grep -q '"preset": "euler"' ||
    fail "a fine-tuned model samples as before"
# a call that is wrong
for wrong in '--steps x' '--lerning-rate 1' '--steps' 'run' '--batch 4 --micro-batch 3' '--preset nowhere'; do
    # shellcheck disable=SC2086
    learn wrong $wrong && fail "$wrong was taken" || [ $? = 2 ] || fail "$wrong: another exit status"
done
printf '{"data": "%s", "lerning_rate": 1}' "$out/d" >"$out/wrong.json"
if "$swd" train --config "$out/wrong.json" --output "$out/wrong" >/dev/null 2>"$out/log"; then fail "an unknown key was taken"; fi
grep -q '"lerning_rate" is no key; the nearest is "learning_rate"' "$out/log" || fail "the nearest key is told"
"$swd" train --help | grep -q -- '--learning-rate .*(default 5e-6)' || fail "train --help"
