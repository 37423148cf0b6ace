#!/bin/sh
# SPDX-License-Identifier: MIT
# gpu_check on the emulated device: parts, filters, the report, exit statuses. $1: gpu_check_emu, $2: fake_vendor, $3: fake_nccl
set -u
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    [ -f "$out/log" ] && cat "$out/log"
    exit 1
}
status() { # wanted, arguments...
    want=$1
    shift
    "$gpu_check" "$@" >"$out/log" 2>&1
    got=$?
    [ $got = "$want" ] || fail "gpu_check $*: exit status $got, not $want"
}
gpu_check=$1 fake_vendor=$2 fake_nccl=$3

# tools/gpu_check/pack takes it to machines without any of the library's own needs
ldd "$gpu_check" | grep -E 'dnnl|gomp|jpeg|spng|fftw|utf8proc' && fail "it is linked with more than it needs"

status 0 --help
grep -q -- --filter "$out/log" || fail "--help doesn't teach"
status 2 --what
status 2 --only ops,nothing
status 2 --device 7
status 2 --only ops --filter no.such.case
grep -q 'nothing passes the filter' "$out/log" || fail "an empty run is not told"
status 1 --only wrappers --out "$out/no/such"
grep -q "$out/no/such" "$out/log" || fail "a folder that cannot be made is not named"

status 0 --only wrappers,ops --filter linear.odd --filter axpby. --filter mma_ --out "$out/report"
python3 - "$out/report" <<'PY' || fail "the report says something else"
import json, os, sys
d = sys.argv[1]
assert sorted(os.listdir(d)) == ["gpu_check.json", "gpu_check.md"], os.listdir(d)
doc = json.load(open(d + "/gpu_check.json"))
assert doc["schema"] == 1 and doc["program"] == "gpu_check"
m = doc["machine"]
assert m["device"] == "emulated device" and m["sm_count"] == 4 and m["compute_capability"] == "8.6"
assert m["peak_gbyte_s"] == 16 and m["peak_gflop_s"] == 1024 * 4, m
assert doc["checks"]["wrappers"]["checked"] == 4, doc["checks"]
assert doc["checks"]["ops"]["checked"] > 20 and doc["checks"]["ops"]["failed"] == 0
assert "mma_e4m3" in doc["checks"]["wrappers"]["skipped"][0]
page = open(d + "/gpu_check.md").read()
assert "| device | emulated device |" in page and "| ops | %d | 0 |" % doc["checks"]["ops"]["checked"] in page
PY

status 0 --only training --filter 'gradient of layernorm' --vendor none --out "$out/trained"
grep -q '^training: [2-9][0-9] checked, 0 failed' "$out/log" || fail "training is not checked"

mkdir "$out/nccl"
cp "$fake_nccl" "$out/nccl/libnccl.so.2"
cp "$fake_vendor" "$out/nccl/libcublasLt.so.13" # or an installed one would be found
status 0 --only training --filter NCCL --vendor "$out/nccl"
grep -q '^sums: 1 checked, 0 failed' "$out/log" || fail "NCCL is not checked"
export FAKE_NCCL=wrong
status 1 --only training --filter NCCL --vendor "$out/nccl"
grep -q 'FAILED one process by NCCL: a sum of one process' "$out/log" || fail "a wrong sum is not told"
unset FAKE_NCCL

status 0 --only bench --out "$out/bench"
"$gpu_check" --expect >"$out/log" || fail "--expect"
cmp -s "$out/log" "$SWD_SOURCE_DIR/docs/kernels.md" || fail "docs/kernels.md is not what gpu_check --expect prints"
python3 - "$out/bench/gpu_check.json" "$out/log" "$SWD_SOURCE_DIR" <<'PY' || fail "the benches' report or the table says something else"
import glob, json, re, sys
doc = json.load(open(sys.argv[1]))
results = doc["results"]
assert doc["quick"] and doc["checks"]["bench"] == {"checked": len(results), "failed": 0, "failures": [], "skipped": []}
assert doc["machine"]["cublaslt"] == "not looked for" and doc["machine"]["event_overhead_us"] > 0
for r in results:
    assert r["runs"] == 2 and 0 < r["min_ms"] <= r["p10_ms"] <= r["median_ms"] <= r["p90_ms"] and r["bytes"] > 0, r
    for rate, work in ("gbyte_s", "bytes"), ("gflop_s", "flop"):
        if work in r:
            assert abs(r[rate] * r["median_ms"] / r[work] * 1e6 - 1) < 1e-4, r
by = {r["name"]: r for r in results}
attention, linear = by["attention: toy, flash"], by["linear: toy, gemm_tiles"]
def near(a, b):
    return abs(a / b - 1) < 1e-5
assert near(attention["flop"], 4 * 2 * 64 * 64 * 64) and near(attention["bytes"], 2 * 4 * 64 * 2 * 64), attention
assert near(linear["flop"], 2 * 40 * 64 * 72) and near(linear["bytes"], 2 * (40 * 64 + 64 * 72 + 40 * 72) + 4 * 72), linear

source = sys.argv[3] + "/src/"
rows = [r.split("|") for r in open(sys.argv[2]) if r.startswith("| ") and r.count("|") == 10][1:]
declared = set(re.findall(r"^swd_status op_(\w+)", open(source + "host/backend/ops.h").read(), re.M))
listed = {r[1].split(":")[0].strip() for r in rows}
assert declared == listed == {r["name"].split(":")[0] for r in results}, (declared ^ listed)
kernels = "".join(open(f).read() for f in glob.glob(source + "cuda/kernels/*.cu"))
for name in {r[2].strip().split(",")[0] for r in rows}:
    assert re.search(r"__global__[^{;]*\b%s\(" % name, kernels), name
for r in rows: # the time that a card needs is the larger of two quotients
    flop, mb, h100 = (float(r[i].strip() or 0) for i in (4, 5, 8))
    assert abs(h100 / max(flop / 989.4 * 1e3, mb / 3350 * 1e3) - 1) < 0.02, r
PY

# Libraries of our own: one whose products are right, one with a wrong column, one that proposes nothing.
mkdir "$out/libs" "$out/empty"
cp "$fake_vendor" "$out/libs/libcublasLt.so.13"
cp "$fake_vendor" "$out/libs/libcudnn.so.9"
set -- --only bench --filter linear --filter conv --filter attention --out "$out/beside" --vendor
status 0 "$@" "$out/empty:$out/libs"
python3 - "$out/beside/gpu_check.json" <<'PY' || fail "the comparison says something else"
import json, sys
doc = json.load(open(sys.argv[1]))
results = doc["results"]
assert "libcublasLt.so.13, version 1" in doc["machine"]["cublaslt"] and "version 91301" in doc["machine"]["cudnn"]
assert len(results) == 20 and doc["checks"]["bench"]["checked"] == 10
for theirs, ours in zip(results[::2], results[1::2]):
    library = "cublaslt" if "linear" in ours["name"] else "cudnn"
    assert theirs["name"] == ours["ratio"]["to"] == ours["name"] + " / " + library and "ratio" not in theirs
    assert ours["flop"] == theirs["flop"] and ours["ratio"]["median"] > 0
    compared = ours["name"].split(":")[0] in ("linear", "conv", "attention")
    assert compared == ("difference" in ours.get("values", {})), ours
    assert not compared or ours["values"]["difference"] < 0.01, ours
PY
# The op cases once more, by the libraries.
status 0 --only ops --filter conv.odd --filter attention. --vendor "$out/libs" --out "$out/checked"
grep -q 'vendor: [1-9][0-9]* checked, 0 failed' "$out/log" || fail "the libraries' own part did not run"
status 0 --only training --filter 'gradient of linear.odd' --vendor "$out/libs"
grep -q '^training by vendor: [1-9][0-9]* checked, 0 failed' "$out/log" || fail "no gradient is checked by the library"
status 0 --only ops --filter fill. --vendor none
grep -q vendor: "$out/log" && fail "libraries were used that nobody wanted"
export FAKE_VENDOR=wrong
status 1 "$@" "$out/libs"
grep -q 'FAILED linear: toy, gemm_tiles: differs from cublaslt by' "$out/log" || fail "a wrong result is not told"
export FAKE_VENDOR=none
status 0 "$@" "$out/libs"
grep -q cublaslt "$out/log" && fail "there was nothing to compare with"
unset FAKE_VENDOR
status 0 "$@" "$out/empty"
grep -q '"cublaslt": "not found"' "$out/beside/gpu_check.json" || fail "a missing library is not told"

# A compute-sanitizer of our own: finds errors with one tool, runs the rest of its command with the others.
cat >"$out/compute-sanitizer" <<'SH'
#!/bin/sh
[ "$1 $3 $4" = "--tool --error-exitcode 86" ] || exit 9
[ "$2" = "${FAKE_ERRORS-}" ] && echo "========= ERROR SUMMARY: 3 errors" && exit 86
shift 4
exec "$@"
SH
chmod +x "$out/compute-sanitizer"
status 0 --sanitize --compute-sanitizer "$out/compute-sanitizer" --filter fill. --out "$out/sane"
for tool in memcheck racecheck synccheck initcheck; do
    grep -q '^ops: [1-9][0-9]* checked, 0 failed' "$out/sane/sanitizer-$tool.log" || fail "$tool ran no cases"
done
export FAKE_ERRORS=racecheck
PATH=$out:$PATH status 1 --sanitize --filter fill. --out "$out/insane"
grep -q 'sanitizers: 4 checked, 1 failed' "$out/log" || fail "the sanitizer's verdict is lost"
grep -q 'racecheck.*it found errors: see' "$out/insane/gpu_check.md" || fail "the sanitizer is not named"
unset FAKE_ERRORS
PATH=$out:$PATH status 1 --sanitize --filter no.such.case --out "$out/insane"
status 1 --sanitize --compute-sanitizer "$out/none"

echo "gpu_check: parts, filters, report and exit statuses are as they should be"
