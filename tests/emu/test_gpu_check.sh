#!/bin/sh
# SPDX-License-Identifier: MIT
# gpu_check on the emulated device: parts, filters, the report, exit statuses. $1: gpu_check_emu
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
gpu_check=$1

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
echo "gpu_check: parts, filters, report and exit statuses are as they should be"
