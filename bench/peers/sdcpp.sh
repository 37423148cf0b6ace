#!/bin/sh
# SPDX-License-Identifier: MIT
# stable-diffusion.cpp beside ours on the same random weights: builds it with its fastest CPU options, rewrites the transformer's
# file for it, runs swd bench compare.
#
#   bench/peers/sdcpp.sh SOURCE WORK BUILD MODEL [options of swd bench]
#
# SOURCE: a checkout of stable-diffusion.cpp with its ggml submodule; WORK: a folder for its build and 5 GB of weights; BUILD: this
# project's build; MODEL: a folder made by random_model sd3.5-medium. OMP_WAIT_POLICY=passive for both where the machine is shared.
set -eu
[ $# -ge 4 ] || {
    sed -n '3,9s/^# \{0,1\}//p' "$0"
    exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
source=$1 work=$2 build=$3 model=$4
shift 4
mkdir -p "$work"
[ -f "$work/build/build.ninja" ] || cmake -S "$source" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DGGML_LLAMAFILE=ON -DCMAKE_C_FLAGS="-O3 -march=native" -DCMAKE_CXX_FLAGS="-O3 -march=native" >&2
ninja -C "$work/build" sd-cli >&2
[ -f "$work/transformer.safetensors" ] ||
    python3 "$here/sdcpp_weights.py" "$model/transformer/diffusion_pytorch_model.safetensors" "$work/transformer.safetensors"
exec "$build/tools/swd/swd" bench compare -m "$model" --sd-cli "$work/build/bin/sd-cli" --sd-weights "$work/transformer.safetensors" \
    --max-tokens 77 "$@"
