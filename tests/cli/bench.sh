#!/bin/sh
# SPDX-License-Identifier: MIT
# swd bench on small models: every kind of measurement writes its document, the work that is counted agrees with what is known of the model,
# other programs are called as they should be, wrong calls are told. $1: random_model, $2: swd, $3: bench_ops
set -eu
maker=$1 swd=$2 ops=$3
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}
run() { # name, arguments of swd bench: a document
    name=$1
    shift
    "$swd" bench "$@" --quick --threads 2 --device cpu --json >"$out/$name.json" 2>"$out/log" || fail "swd bench $*: $(cat "$out/log")"
}
expect() { # status, text of the message, arguments of swd bench
    want=$1 text=$2 status=0
    shift 2
    "$swd" bench "$@" >"$out/o" 2>"$out/e" || status=$?
    [ $status = "$want" ] || fail "swd bench $*: status $status, not $want: $(cat "$out/e")"
    grep -q "swd: error: .*$text" "$out/e" || fail "swd bench $*: $(cat "$out/e")"
}
"$maker" tiny "$out/model" --t5 --tokenizers "$SWD_SOURCE_DIR/tests/data/vocab" 2>"$out/log" || fail "random_model: $(cat "$out/log")"

run step step --arch tiny --size 64,128 --max-tokens 77 --precision f32
run folder step -m "$out/model" --size 64x64 --max-tokens 77 --precision f32
run vae vae --arch tiny --size 64 --plot "$out/vae.svg"
run text text --arch tiny
run ops ops --arch tiny --size 64 --max-tokens 77
run some ops --arch tiny --size 64 --max-tokens 77 --filter attention
run flux step --arch tiny-flux --size 64 --max-tokens 32 --precision f32
run e2e e2e --arch tiny --size 64,128 --steps 2,6 --max-tokens 77 --precision f32 --plot "$out/e2e.svg"
run own e2e --arch tiny --steps 2 --scales 4,8,16 --sigmas 1,.8,.5 --guidance 1
run throughput throughput --arch tiny --batch 1,3
run mixed throughput --arch tiny --size 32 --batch 1 --mix
grep -q convolutions "$out/vae.svg" || fail "no picture of the autoencoder"
[ -s "$out/e2e.svg" ] && [ -s "$out/e2e-sizes.svg" ] || fail "no pictures"

# programs that look like the others
cat >"$out/sd-cli" <<'SH'
#!/bin/sh
echo "$*" >>"$(dirname "$0")/sd-args"
echo "sampling completed, taking 0.50s"
echo "decode_first_stage completed, taking 0.25s"
SH
cat >"$out/peer.py" <<'PY'
import sys
open(sys.argv[1] + "/../peer-args", "a").write(" ".join(sys.argv[2:]) + "\n")
if sys.argv[-1] != "--once":
    print("loading...\nready", flush=True)
    for _ in sys.stdin:
        print("seconds 0.125", flush=True)
PY
chmod +x "$out/sd-cli"
run compare compare -m "$out/model" --size 64 --max-tokens 77 --precision f32 --steps 2 --guidance 3 --python python3 --script "$out/peer.py" \
    --processes --sd-cli "$out/sd-cli" --sd-weights "$out/w.safetensors"
grep -q -- "--threads 2 --size 64 --steps 2 --guidance 3 --max-tokens 77 --precision f32$" "$out/peer-args" || fail "$(cat "$out/peer-args")"
grep -q -- "--precision f32 --once$" "$out/peer-args" || fail "no process: $(cat "$out/peer-args")"
grep -q -- "--diffusion-model $out/w.safetensors .*-W 64 -H 64 --steps 2 .*--type f16 -t 2" "$out/sd-args" || fail "$(cat "$out/sd-args")"
"$ops" --quick --filter rms_norm >"$out/bench_ops.json" 2>"$out/log" || fail "bench_ops: $(cat "$out/log")"

# for people, and beside an earlier run
"$swd" bench step --arch tiny --size 64 --max-tokens 77 --precision f32 --quick --markdown --baseline "$out/step.json" -o "$out/again.json" \
    >"$out/table" 2>"$out/log" || fail "a table: $(cat "$out/log")"
grep -q '^| step 64 px, batch 1, 154 tokens | f32 | .*(noise ' "$out/table" || fail "$(cat "$out/table")"
grep -q '"verdict"' "$out/again.json" || fail "no baseline in the document"
# a document that is none costs nothing of what was measured
expect 1 "no document of swd bench" step --arch tiny --size 64 --quick --baseline "$out/model/model_index.json" -o "$out/kept.json"
grep -q "^step 64 px" "$out/o" && grep -q '"median_ms"' "$out/kept.json" || fail "a wrong baseline lost the results: $(cat "$out/o")"

# Ctrl-C
"$swd" bench e2e --arch tiny --size 64 --steps 256 --runs 1000 >"$out/o" 2>"$out/e" &
pid=$!
caught() { # does it listen to SIGTERM by now?
    mask=$(sed -n 's/^SigCgt:[[:space:]]*//p' "/proc/$pid/status" | tail -c 9)
    [ $((0x${mask:-0} & 0x4000)) != 0 ]
}
tries=0
until caught || [ $tries = 200 ]; do sleep .1 && tries=$((tries + 1)); done
sleep .3
kill -TERM $pid
status=0
wait $pid || status=$?
[ $status = 1 ] && grep -q "swd: error: cancelled" "$out/e" || fail "interrupted: status $status, $(cat "$out/e")"

expect 2 "what to measure"
expect 2 "nothing that can be measured" speed
expect 2 "these are: sd3.5-medium," step --arch sd4
expect 2 "nothing was measured" step --arch tiny --size 64 --filter nowhere
expect 2 "not both" step --arch tiny -m "$out/model"
expect 2 "adapters need a model folder" step --arch tiny --lora "$out/model"
expect 2 "no such file" step --baseline "$out/nowhere.json"
expect 2 "sides of square pictures" step --size 64x32
expect 2 "no multiple of 16" step --arch tiny --size 40
expect 2 "presets, or scales" e2e --arch tiny --preset sd3.5-medium-6 --scales 4,8 --sigmas 1,.5
expect 2 "is not known" e2e --arch tiny --preset sd9 --quick
expect 2 "compare with what" compare -m "$out/model"
expect 2 "compare needs a model folder" compare --arch tiny --python python3 --script x.py
"$maker" tiny-flux "$out/flux-model" --t5 --tokenizers "$SWD_SOURCE_DIR/tests/data/vocab" 2>"$out/log" || fail "random_model: $(cat "$out/log")"
expect 1 "parts of SD3 folders only" compare -m "$out/flux-model" --sd-cli "$out/sd-cli" --sd-weights "$out/w.safetensors"
expect 2 "needs its script" compare -m "$out/model" --python python3
expect 1 "failed\|ended too early" compare -m "$out/model" --size 64 --quick --python python3 --script "$out/nowhere.py"

python3 - "$out" <<'PY' || fail "the documents say something else"
import json, sys

def flop(side, text, d=64, layers=3, dual=1, joint=128, pooled=128, channels=16):
    n, l = (side // 2) ** 2, text
    total = n * d * 4 * 2 * channels + l * d * joint + d * (256 + pooled + 2 * d) + 2 * d * d
    for i in range(layers):
        last = i == layers - 1
        total += 12 * n * d * d + (3 if last else 12) * l * d * d + 2 * (n if last else n + l) * (n + l) * d
        total += ((9 if i < dual else 6) + (2 if last else 6)) * d * d
        if i < dual:
            total += 4 * n * d * d + 2 * n * n * d
    return 2 * total

def flux_flop(side, text, d=64, double=2, single=2, joint=128, pooled=64, channels=64):
    n, l = (side // 2) ** 2, text
    both = 12 * (n + l) * d * d + 2 * (n + l) ** 2 * d  # of a block of either kind, and its attention
    total = n * d * 2 * channels + l * d * joint  # into and out of the rows
    total += 2 * (256 * d + d * d) + pooled * d + d * d  # time, guidance, pooled text
    return 2 * (total + double * (both + 12 * d * d) + single * (both + 3 * d * d) + 2 * d * d)

def clip_flop(n, d=64, layers=2):
    return 2 * (layers * (12 * n * d * d + 2 * n * n * d) + d * d)  # and the projection of one row

def t5_flop(n, d=128, inner=128, ff=256, layers=2):
    return 2 * layers * (4 * n * d * inner + 3 * n * d * ff + 2 * n * n * inner)

def encode_flop(side, widths=(16, 16, 32, 32), latent=16):
    px, c, total = side * side, widths[0], side * side * 9 * 3 * widths[0]
    for i, w in enumerate(widths):  # one resnet, then half the side
        total += px * 9 * (c + w) * w + (px * c * w if c != w else 0)
        c = w
        if i < 3:
            px //= 4
            total += px * 9 * w * w
    return 2 * (total + px * (4 * 9 * c * c + 4 * c * c + 2 * px * c + 9 * c * 2 * latent))  # middle and end

def near(a, b, tolerance=1e-4):
    assert abs(a / b - 1) < tolerance, (a, b)

docs = {name: json.load(open(f"{sys.argv[1]}/{name}.json")) for name in
        "step folder vae text ops some flux e2e own throughput mixed compare bench_ops".split()}
for name, doc in docs.items():
    assert doc["schema"] == 1 and doc["quick"] and doc["results"], name
    assert doc["stopping"]["runs_min"] == 1, name
    assert all(r["runs"] == 1 and r["median_ms"] > 0 for r in doc["results"]), name
assert docs["step"]["program"] == "swd bench step" and docs["step"]["machine"]["model"] == "random tiny"
assert docs["folder"]["machine"]["model"] == "model" and docs["step"]["machine"]["threads"] == 2
by = {name: {r["name"]: r for r in doc["results"]} for name, doc in docs.items()}

for side in 64, 128:
    r = by["step"][f"step {side} px, batch 1, 154 tokens"]
    near(r["flop"], flop(side // 8, 154))
    v = r["values"]
    assert v["linear_ms"] + v["attention_ms"] + v["norm_ms"] + v["other_ms"] <= 1.01 * r["median_ms"]
    assert v["weight_bytes"] > 0 and v["slab_bytes"] > 0 and v["linear_share"] > 0 and r["peak"] == "measured"
    near(r["share_of_peak"], r["gflop_s"] / r["peak_gflop_s"])
near(by["folder"]["step 64 px, batch 1, 154 tokens"]["flop"], flop(8, 154))
near(by["flux"]["step 64 px, batch 1, 32 tokens"]["flop"], flux_flop(8, 32))
assert "decode 64 px, batch 1" in by["vae"]  # counted in tests/unit/test_bench_networks.c
near(by["vae"]["encode 64 px, batch 1"]["flop"], encode_flop(64))
near(by["text"]["text CLIP-L, 77 tokens"]["flop"], clip_flop(77))
near(by["text"]["text CLIP-G, 77 tokens"]["flop"], clip_flop(77))
near(by["text"]["text T5, 256 tokens"]["flop"], t5_flop(256))

calls = {n: r for n, r in by["ops"].items() if n.startswith("step 64 px: ")}
near(sum(r["flop"] * r["values"]["calls"] for r in calls.values() if "flop" in r), by["ops"]["step 64 px"]["flop"])
assert calls["step 64 px: linear 16x64x256"]["values"]["calls"] == 3  # an MLP of the image a layer
assert sum(r["values"]["share_of_whole"] for r in calls.values()) <= 1.01
assert [n for n in by["some"] if "attention" not in n] == ["step 64 px", "decode 64 px"] and len(by["some"]) > 3

for side in 64, 128:
    group = {n.split(": ")[1]: r for n, r in by["e2e"].items() if n.startswith(f"{side} px")}
    assert list(group) == ["sd3.5-medium-6", "2 full steps", "2 full steps, guided", "6 full steps", "6 full steps, guided"]
    scales, full = group["sd3.5-medium-6"], group["6 full steps"]
    sides = [max(2, 2 * int(side / 8 * s / 128 / 2 + .5)) for s in (32, 48, 64, 80, 96, 128)]
    # text and pooled text are embedded once in a request, not once a step
    once = 2 * (154 * 64 * 128 + 64 * (128 + 64))
    near(scales["values"]["denoise_flop"], sum(flop(s, 154) for s in sides) - 5 * once)
    near(full["values"]["denoise_flop"], 6 * flop(side // 8, 154) - 5 * once)
    near(group["2 full steps, guided"]["values"]["denoise_flop"], 4 * flop(side // 8, 154) - 2 * once)
    near(full["values"]["denoise_flop_ratio"], full["values"]["denoise_flop"] / scales["values"]["denoise_flop"])
    near(full["values"]["efficiency"], full["values"]["denoise_ratio"] / full["values"]["denoise_flop_ratio"])
    near(full["values"]["denoise_ratio"], full["values"]["denoise_ms"] / scales["values"]["denoise_ms"])
    near(full["ratio"]["median"], full["median_ms"] / scales["median_ms"])
    parts = sum(full["values"][k] for k in ("text_ms", "denoise_ms", "decode_ms"))
    assert parts <= full["median_ms"]
assert list(by["own"]) == ["128 px: own scales", "128 px: 2 full steps"]

three = by["throughput"]["128 px: batches of 3"]
assert three["values"]["pictures"] == 6
assert list(by["mixed"]) == [f"32 px: {w}" for w in ("single requests", "batches of 1", "batches of 1, mixed")]
assert by["mixed"]["32 px: batches of 1, mixed"]["values"]["pictures"] == 12
near(three["values"]["images_per_s"], 1e3 / three["median_ms"])

c = by["compare"]
near(c["64 px, 2 steps, warm: diffusers"]["median_ms"], 125)
assert c["64 px, 2 steps, process: swd"]["ratio"]["to"] == "64 px, 2 steps, process: diffusers"
near(c["step 64 px: stable-diffusion.cpp"]["median_ms"], 250)  # half a second for two
near(c["decode 64 px: stable-diffusion.cpp"]["median_ms"], 250)
assert c["step 64 px: swd"]["precision"] == "f32" and c["step 64 px: stable-diffusion.cpp"]["precision"] == "f16"
PY
echo "bench: every kind measured, its work counted"
