#!/bin/bash
# SPDX-License-Identifier: MIT
# swd spectrum and swd eval as scripts see them. usage: eval.sh PROGRAM
set -u
swd=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0
bad() { echo "FAILED: $*"; failures=$((failures + 1)); }
expect() { # STATUS 'PART OF STDERR' ARGS...
    local status=$1 part=$2
    shift 2
    "$swd" "$@" >out.txt 2>err.txt
    local got=$?
    [ $got = "$status" ] || bad "swd $* exits with $got, not $status: $(cat err.txt)"
    [ -z "$part" ] || grep -qF -- "$part" err.txt || bad "swd $*: stderr lacks '$part': $(cat err.txt)"
}

# two pictures, of which one is not square
python3 - <<'PY'
import struct, zlib
def png(name, w, h, f):
    rows = b"".join(b"\0" + bytes(v for x in range(w) for v in f(x, y)) for y in range(h))
    chunk = lambda t, d: struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
    open(name, "wb").write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
import os
os.mkdir("pictures")
png("pictures/a.png", 64, 64, lambda x, y: (4 * x, 4 * y, 255 * (x // 8 % 2)))
png("pictures/b.png", 96, 72, lambda x, y: (x * y % 256, 255 - 2 * x, 3 * y % 256))
PY
touch pictures/notes.txt

# ---- spectrum ----
expect 0 "" spectrum --help
head -1 out.txt | grep -q "^  swd spectrum" || bad "help of spectrum does not start with an example"
expect 2 "no pictures" spectrum
expect 2 "squares" spectrum pictures --size 64x32
expect 1 "no picture" spectrum pictures/notes.txt
expect 1 "nowhere" spectrum nowhere
expect 2 "fall" spectrum pictures --size 64x64 --sigmas .5,.6
expect 2 "both given" spectrum pictures --size 64x64 --sigmas 1,.6 --scales 4,8
expect 0 "" spectrum pictures --size 64x64 --sigmas 1,.5,.1,.01,0 -o s --json
cp out.txt first.txt
expect 0 "" spectrum pictures/b.png pictures/a.png --size 64x64 --sigmas 1,.5,.1,.01,0 --json
python3 - <<'PY' || bad "spectrum --json: $(cat first.txt)"
import csv, json, math
o = json.load(open("first.txt"))
assert o == json.load(open("s.json"))
assert o["pictures"] == 2 and o["size"] == [8, 8] and o["frequency"] == [k / 8 for k in (1, 2, 3, 4)], o
assert [s["side"] for s in o["scales"]] == [2, 4, 6, 8]
assert all(abs(s - math.sqrt(p) / (1 + math.sqrt(p))) < 1e-12 for s, p in zip(o["masking_sigma"], o["power"]))
sides = o["schedule"]["scales"]
assert sides == sorted(sides) and sides[-1] == 8 and o["schedule"]["sigmas"] == [1, .5, .1, .01, 0], o
rows = list(csv.DictReader(open("s.csv")))
assert len(rows) == 4 and all(abs(float(r["power"]) / p - 1) < 1e-8 for r, p in zip(rows, o["power"]))
again = json.load(open("out.txt"))  # the other order
assert all(abs(a / b - 1) < 1e-12 for a, b in zip(o["power"], again["power"]))
import xml.dom.minidom
xml.dom.minidom.parse("s.svg")
PY
# latents files say the same as the pictures that they were encoded from
expect 0 "" encode pictures/a.png -o a.safetensors
expect 0 "" spectrum a.safetensors --json
cp out.txt a.txt
expect 0 "" spectrum pictures/a.png --size 64x64 --json
cmp -s a.txt out.txt || bad "latents and pictures differ"
# a schedule that the program takes, in a swd.json whose other keys stay
echo '{"baseline": {"steps": 3}}' >swd.json
expect 0 "" spectrum pictures --size 64x64 --scales 4,8 --write swd.json
python3 -c 'import json; o = json.load(open("swd.json")); p = o["presets"][o["default"]]; assert p["scales"] == [4, 8] and p["sigmas"][0] == 1 and o["baseline"]["steps"] == 3, o' ||
    bad "swd.json: $(cat swd.json)"
echo '[' >broken.json
expect 1 "broken.json" spectrum pictures --size 64x64 --write broken.json
[ "$(cat broken.json)" = '[' ] || bad "a broken swd.json was changed"

[ $failures = 0 ] && echo "eval: all as promised"
exit $((failures > 0))
