#!/bin/sh
# SPDX-License-Identifier: MIT
# mpirun -n N swd: pictures and parameters are those of one process. usage: mpi.sh MPIRUN SWD
set -eu
mpirun=$1 swd=$2
export OMP_NUM_THREADS=1 # steps of milliseconds
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
    echo "FAILED: $*"
    cat "$out/log"
    exit 1
}
together() { # processes, what
    n=$1
    shift
    "$mpirun" --oversubscribe --bind-to none -n "$n" "$@" >"$out/made" 2>"$out/log"
}
together 2 true || { echo "mpirun starts no processes on this machine: $(cat "$out/log")"; exit 77; }
said_once() { [ "$(grep -c "$1" "$out/log")" = 1 ] || fail "$1 is to be said once"; }

# ---- generate ----
i=0
while [ $i -lt 7 ]; do
    echo "a red apple, number $i"
    i=$((i + 1))
done >"$out/prompts"
mkdir "$out/one" "$out/two"
how="generate --prompts $out/prompts --seed 3 --batch 2 --scales 4,6 --sigmas 1,.8"
# shellcheck disable=SC2086
"$swd" $how -o "$out/one/%d.png" >/dev/null 2>"$out/log" || fail "generate alone"
# shellcheck disable=SC2086
together 2 "$swd" $how --json -o "$out/two/%d.png" || fail "generate in two processes"
diff -r "$out/one" "$out/two" || fail "the pictures differ"
python3 - "$out/made" <<'PY' || fail "the summary: $(cat "$out/made")"
import json, sys
r = json.load(open(sys.argv[1]))
assert [i["seed"] for i in r["images"]] == list(range(3, 10)), r
assert [i["file"].split("/")[-1] for i in r["images"]] == [f"{i}.png" for i in range(7)], r
assert r["images"][6]["prompt"] == "a red apple, number 6" and 0 < r["latency_ms"]["p50"] <= r["latency_ms"]["p90"], r
PY
# steps that are mixed, three processes for one batch of two and one of one
head -n 3 "$out/prompts" >"$out/three"
how="generate --prompts $out/three --seed 3 --batch 2 --scales 4,6 --sigmas 1,.8 --mix"
mkdir "$out/mix1" "$out/mix3"
# shellcheck disable=SC2086
"$swd" $how -o "$out/mix1/%d.png" >/dev/null 2>"$out/log" || fail "generate --mix alone"
# shellcheck disable=SC2086
together 3 "$swd" $how -o "$out/mix3/%d.png" || fail "generate --mix in three processes"
diff -r "$out/mix1" "$out/mix3" || fail "the pictures of mixed steps differ"
[ "$(wc -l <"$out/made")" = 3 ] || fail "three pictures are named"
# networks that take turns: each has its part of the list from the start; one of the two has no batch
head -n 2 "$out/prompts" >"$out/few"
mkdir "$out/turns"
together 2 "$swd" generate --prompts "$out/few" --seed 3 --batch 2 --scales 4,6 --sigmas 1,.8 --offload -o "$out/turns/%d.png" || fail "--offload"
for f in 0 1; do cmp "$out/one/$f.png" "$out/turns/$f.png" || fail "--offload draws otherwise"; done
# a data set, taken up
how="generate --prompts $out/prompts --dataset $out/d --steps 1 --sampler euler --guidance 1 --batch 1 -o %d.png"
# shellcheck disable=SC2086
together 2 "$swd" $how || fail "generate --dataset"
[ "$(wc -l <"$out/d/metainfo.csv")" = 8 ] || fail "metainfo.csv: $(cat "$out/d/metainfo.csv")"
cp "$out/d/4.png" "$out/4.png"
rm "$out/d/4.png" "$out/d/metainfo.csv"
# shellcheck disable=SC2086
together 2 "$swd" $how || fail "going on with the data set"
[ "$(cat "$out/made")" = "$out/d/4.png" ] || fail "the missing one alone is made: $(cat "$out/made")"
cmp "$out/d/4.png" "$out/4.png" || fail "made again it is another picture"
[ "$(wc -l <"$out/d/metainfo.csv")" = 8 ] || fail "metainfo.csv after going on"
# a process that fails ends all, in one message
if "$mpirun" --oversubscribe -n 1 "$swd" generate --prompts "$out/prompts" --seed 3 -o "$out/two/%d.png" : \
    -n 1 "$swd" generate --prompts "$out/prompts" --seed 3 -o "$out/nowhere/%d.png" >"$out/made" 2>"$out/log"; then
    fail "a folder that is not there for one of them"
fi
said_once 'swd: error: process 1: .*there is no folder'
[ "$(grep -c 'swd: error' "$out/log")" = 1 ] || fail "one error is one message"

# ---- train ----
learn() { # folder, processes (0: no mpirun), options...
    folder=$1 n=$2
    shift 2
    set -- "$swd" train --data "$out/d" --output "$out/$folder" --cache "$out/cache" --scales 4,6 --sigmas 1,.8 --batch 4 --lora-rank 2 \
        --learning-rate 1e-3 --epsilon 1 --clip-norm 0 --log-every 1 --precision f32 "$@"
    if [ "$n" = 0 ]; then "$@" >"$out/made" 2>"$out/log"; else together "$n" "$@"; fi
}
# An update in proportion to the gradient (epsilon 1), so what an adapter's B holds, which began at 0, is a sum of gradients. The same sums in
# another order: the bound of the micro-batches (tests/unit/test_distill_task.c).
close_to() { # folders
    python3 - "$out/$1" "$out/$2" <<'PY' || fail "$1 and $2 learn differently"
import array, json, math, struct, sys
def read(folder):
    raw = open(folder + "/result/adapter_model.safetensors", "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    x = array.array("f")
    for name, t in sorted(json.loads(raw[8:8 + n]).items()):
        if "lora_B" in name:
            x.frombytes(raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
    return x
def loss(folder):
    return [json.loads(l)["loss"] for l in open(folder + "/log.jsonl")]
a, b = read(sys.argv[1]), read(sys.argv[2])
assert len(a) == len(b) > 1000
size = math.sqrt(sum(x * x for x in a))
off = math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b)))
print(f"# {sys.argv[2]}: {off / size:.1e} of what was learnt")
assert size > 0 and off < 4e-5 * size, (off, size)
for x, y in zip(loss(sys.argv[1]), loss(sys.argv[2])):
    assert abs(x - y) < 1e-4 * abs(x), (x, y)
assert len(loss(sys.argv[1])) == len(loss(sys.argv[2]))
PY
}
echo no picture >"$out/d/bad.png"
echo '7,bad.png,"a red apple"' >>"$out/d/metainfo.csv"
learn alone 0 --steps 2 || fail "train alone"
learn two 2 --steps 2 --sample-every 2 --cache "$out/cache2" || fail "train in two processes"
cmp "$out/cache" "$out/cache2" || fail "the caches differ"
said_once 'left out: .*bad.png'
cmp "$out/cache.left-out.tsv" "$out/cache2.left-out.tsv" || fail "what is left out differs"
[ "$(cat "$out/made")" = "$out/two/result" ] || fail "the result's folder is printed once"
said_once '2 processes, 2 pictures of a batch each, gradients added by MPI;'
[ -s "$out/two/samples/step-00000002.png" ] || fail "there is no sheet"
close_to alone two
# stopped, and taken up by as many: the same bits; by another number of processes
learn cut 2 --steps 2 --minutes 1e-9 || fail "a time limit"
said_once '1 of 2 steps are done'
learn cut 2 --steps 2 --resume || fail "going on in two processes"
cmp "$out/two/result/adapter_model.safetensors" "$out/cut/result/adapter_model.safetensors" || fail "going on gives other bits"
learn four 4 --steps 2 --minutes 1e-9 || fail "train in four processes"
learn four 2 --steps 2 --resume --micro-batch 1 || fail "taken up by two processes"
close_to alone four
# the fake model and the head learn from all, too
full="--mode full --fake-updates 1 --caption-dropout .3 --mmd-kernel linear --steps 1"
# shellcheck disable=SC2086
learn full1 0 $full || fail "train --mode full alone"
# shellcheck disable=SC2086
learn full2 2 $full || fail "train --mode full in two processes"
close_to full1 full2
# what cannot be shared, one that was called otherwise, one that is stopped
if learn wrong 2 --steps 1 --batch 5; then fail "a batch that cannot be divided was taken"; fi
said_once 'batch 5 is of all 2 processes together'
learn stopped 2 --steps 100000 &
pid=$!
while [ "$(wc -l 2>/dev/null <"$out/stopped/log.jsonl" || echo 0)" -lt 2 ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
second=$(pgrep -f -- "--output $out/stopped" | while read -r p; do tr '\0' '\n' <"/proc/$p/environ" 2>/dev/null | grep -qx 'OMPI_COMM_WORLD_RANK=1' && echo "$p"; done | head -n 1)
kill -INT "$second"
if wait $pid; then fail "it was stopped"; fi
said_once 'has it all, --resume goes on'
