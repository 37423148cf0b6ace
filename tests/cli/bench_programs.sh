#!/bin/sh
# SPDX-License-Identifier: MIT
# The bench programs run on a tiny model and write their documents; what they count agrees with what is known of it.
# $1: random_model, $2: bench_model, $3: bench_e2e
set -eu
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    exit 1
}
"$1" tiny "$out/model" --t5 --tokenizers "$SWD_SOURCE_DIR/tests/data/vocab" 2>"$out/log" || fail "random_model: $(cat "$out/log")"
"$2" -m "$out/model" --quick --latents 8,16 --text 154 --pixels 64 --json "$out/model.json" 2>"$out/log" ||
    fail "bench_model: $(cat "$out/log")"
"$3" -m "$out/model" --quick --size 128 --text 154 --json "$out/e2e.json" 2>"$out/log" || fail "bench_e2e: $(cat "$out/log")"
python3 - "$out/model.json" "$out/e2e.json" <<'PY' || fail "the documents say something else"
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

model, e2e = (json.load(open(f)) for f in sys.argv[1:3])
assert model["schema"] == e2e["schema"] == 1 and model["program"] == "bench_model" and model["quick"]
by = {(r["name"], r.get("precision")): r for r in model["results"]}
for side in 8, 16:
    for precision in "f32", "bf16":
        r = by[f"step latent {side} text 154", precision]
        assert abs(r["flop"] / flop(side, 154) - 1) < 1e-4, (side, r["flop"], flop(side, 154))
        v = r["values"]
        assert v["linear_ms"] + v["attention_ms"] + v["norm_ms"] + v["other_ms"] <= 1.01 * r["median_ms"]
        assert v["weight_bytes"] > 0 and v["slab_bytes"] > 0 and v["linear_share"] > 0
for name in "decode 64 px", "text CLIP-L 77 tokens", "text CLIP-G 77 tokens", "text T5 256 tokens":
    assert by[name, "f32"]["flop"] > 0, name
scales, full, guided = e2e["results"][:3]
by_flop = full["flop"] / scales["flop"]
sides = [4, 6, 8, 10, 12, 16]
assert abs(by_flop / (6 * flop(16, 154) / sum(flop(s, 154) for s in sides)) - 1) < 1e-3, by_flop
assert abs(guided["flop"] / (4 * flop(16, 154)) - 1) < 1e-3
assert abs(scales["values"]["speed_up"] / full["ratio"]["median"] - 1) < 1e-3
PY
echo "bench programs: work counted, documents written"
