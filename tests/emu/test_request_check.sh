#!/bin/sh
# SPDX-License-Identifier: MIT
# request_check on the emulated device: all is well with a tiny random model, and a wrong call is told. $1: request_check_emu
set -u
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    cat "$out/log"
    exit 1
}
check=$1
"$SWD_RANDOM_MODEL" tiny "$out/model" --t5 --tokenizers "$SWD_SOURCE_DIR/weights/emoji" 2>"$out/log" || fail "no model"
"$check" --help >"$out/log" || fail "--help"
"$check" --many 2 2>"$out/log"
[ $? = 2 ] || fail "a wrong value"
"$check" -m "$out/model" --device 7 >"$out/log" 2>&1
[ $? = 77 ] || fail "a device that is not there"
"$check" -m "$out/model" --size 16 --many 4 --at-once 2 --runs 1 --out "$out/report" >"$out/log" 2>&1 || fail "exit status $?"
python3 - "$out/report" <<'PY' || fail "the report says something else"
import json, os, sys
d = sys.argv[1]
assert sorted(os.listdir(d)) == ["request_check.json", "request_check.md"], os.listdir(d)
doc = json.load(open(d + "/request_check.json"))
assert doc["program"] == "request_check" and doc["checks"]["requests"]["failed"] == 0
assert doc["checks"]["training"]["checked"] == 9 and doc["checks"]["training"]["failed"] == 0
assert doc["checks"]["requests"]["checked"] == 6 + 5 + 2, doc["checks"]
alone, together = doc["results"]
assert together["ratio"]["to"] == alone["name"] and alone["median_ms"] > 0
PY
cat "$out/log"
