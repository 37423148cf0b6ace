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

# ---- eval ----
expect 0 "" eval --help
expect 2 "no pictures and no prompts" eval
expect 1 "nowhere" eval nowhere
expect 1 "no picture" eval pictures/notes.txt
expect 1 "no picture" eval pictures --reference pictures/notes.txt
expect 1 "config.json" eval pictures --features pictures
printf 'a dog\na <b>bold</b> & "quoted" cat\n' >list.txt
printf 'a dog\na cat\na cow\n' >three.txt
expect 2 "2 pictures for 3 prompts" eval pictures --prompts three.txt
# made here: two of each prompt, with the guesses of every step for the page
fast=(--scales 2,4 --sigmas 1,.6 --size 64x64 --text-encoders clip_l --max-tokens 4)
expect 0 "" eval --prompts list.txt -n 2 "${fast[@]}" -o made --html page.html --title "A & B" --reference pictures --resamples 20 --json
cp out.txt made.txt
expect 0 "" eval made --reference pictures --resamples 20 --json # the prompts are in the files
cp out.txt again.txt
expect 0 "" eval made/0000{3,2,1,0}.png --reference pictures --resamples 20
grep -q "^retrieval@1 " out.txt || bad "the table: $(cat out.txt)"
cp -r made same
expect 0 "" eval made --images same --reference made --resamples 0 --json
python3 - <<'PY' || bad "eval --json: $(cat made.txt)"
import json, html.parser, re
o, again, self = (json.load(open(f)) for f in ("made.txt", "again.txt", "out.txt"))
assert o == again, again
assert o["pictures"] == 4 and o["prompts"] == 2 and o["reference"] == 2 and o["precision"] == "f32"
assert [i["prompt"] for i in o["images"]] == ["a dog"] * 2 + ['a <b>bold</b> & "quoted" cat'] * 2
m = o["metrics"]
assert set(m) == {"frechet", "mmd", "clip_score", "retrieval@1", "retrieval@5", "diversity", "reference_diversity"}, m
assert m["retrieval@1"]["value"] == sum(i["rank"] == 0 for i in o["images"]) / 4 and m["retrieval@5"]["value"] == 1
assert abs(m["clip_score"]["value"] - sum(i["score"] for i in o["images"]) / 4) < 1e-12
assert all(v["interval"][0] <= v["value"] <= v["interval"][1] for v in m.values()) and m["frechet"]["interval"][1] > m["frechet"]["value"]
assert self["pictures"] == 8 and all(i["psnr"] == 100 and i["ssim"] == 1 for i in self["images"])
assert all(v["interval"] == [v["value"]] * 2 for v in self["metrics"].values())

class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(); self.images, self.text, self.open = [], "", []
    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "b"), tag
        a = dict(attrs)
        assert "href" not in a and not any(k.startswith("on") for k in a)
        if tag == "img": self.images.append(a["src"])
        elif tag != "meta": self.open.append(tag)
    def handle_endtag(self, tag):
        assert self.open.pop() == tag
    def handle_data(self, data): self.text += data
p = Page()
source = open("page.html").read()
p.feed(source); p.close()
assert p.open == [] and len(p.images) == 4 * (1 + 2) and all(i.startswith("data:image/jpeg;base64,") for i in p.images)
assert "A & B" in p.text and p.text.count('a <b>bold</b> & "quoted" cat') == 2 and "retrieval@1" in p.text and "2x2@1 4x4@0.6" not in p.text.split("settings")[0]
assert not re.search(r"https?:|url\(|@import", source) and "viewport" in source
PY
# another schedule into the same folder: the page has the guesses of this call alone
expect 0 "" eval --prompts list.txt -n 2 --scales 4 --sigmas 1 "${fast[@]:4}" -o made --html second.html --resamples 0
[ "$(grep -o 'title="step' second.html | wc -l)" = 4 ] || bad "guesses of an earlier call: $(grep -o 'title="step[^"]*"' second.html)"
expect 2 "no %" eval --prompts list.txt "${fast[@]}" -o 'a%b'
[ ! -e 'a%b' ] || bad "a refused folder was made"
# in a browser, as wide as a phone: everything is there and nothing is wider than the screen
if command -v chromium >/dev/null; then
    sed 's|</body>|<script>document.title = [innerWidth, document.documentElement.scrollWidth, [...document.images].filter(i => i.complete \&\& i.naturalWidth).length].join(" ")</script></body>|' page.html >probe.html
    sed -i 's| loading="lazy"||' probe.html
    timeout 120 chromium --headless --no-sandbox --disable-gpu --window-size=390,800 --virtual-time-budget=5000 --dump-dom "file://$dir/probe.html" >dom.txt 2>/dev/null || bad "chromium does not run"
    python3 - <<'PY' || bad "in chromium: $(grep -o '<title>[^<]*' dom.txt)"
import re
width, scroll, images = map(int, re.search(r"<title>(\d+) (\d+) (\d+)<", open("dom.txt").read()).groups())
assert scroll <= width and images == 12
PY
else
    echo "no chromium: the page was not looked at by a browser"
fi

[ $failures = 0 ] && echo "eval: all as promised"
exit $((failures > 0))
