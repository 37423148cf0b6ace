#!/bin/sh
# SPDX-License-Identifier: MIT
# From a prompt list to data for training, taken up where they were left. $1: swd
set -eu
swd=$1
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
for wrong in 'x.png' 'a/%d.png' '%d%d.png' '%d.bmp'; do
    if data -o "$wrong"; then fail "-o $wrong was taken"; fi
    cmp -s "$out/expected" "$out/d/metainfo.csv" || fail "-o $wrong has changed metainfo.csv"
done
