#!/bin/sh
# SPDX-License-Identifier: MIT
# What kernels may use (docs/emulator.md): PTX, shared memory and launches only through dev.cuh, includes only of this folder and of
# the headers that the CPU shares with them.
cd "${SWD_SOURCE_DIR:-.}/src/cuda/kernels" || exit 1
bad=0 n=0
refuse() { # file, pattern, why
    found=$(grep -nE -e "$2" "$1" | grep -vE '^[0-9]+:[[:space:]]*(//|\*|/\*)')
    [ -z "$found" ] && return
    echo "$1: $3"
    echo "$found"
    bad=1
}
for f in *.cu *.cuh; do
    [ "$f" = dev.cuh ] && continue
    n=$((n + 1))
    refuse "$f" '\basm\b|__asm' 'PTX stands in dev.cuh, beside its emulated twin'
    refuse "$f" '__shared__' 'shared memory: DYN_SMEM, SMEM_ARRAY'
    refuse "$f" '<<<' 'launch(kernel, grid, block, smem, stream, ...)'
    refuse "$f" 'cudaLaunchKernel|cudaFuncSetAttribute' 'launch() does that'
    refuse "$f" '\b(__activemask|__shfl|__ballot|__any|__all)\(' 'warp operations take a mask'
    refuse "$f" '^#include <(cuda|cooperative|mma|cub|thrust)' 'device headers come through dev.cuh'
    for i in $(grep -oE '^#include "[^"]+"' "$f" | cut -d'"' -f2); do
        case $i in
            base/philox.h | backend/resize_taps.h) ;;
            */*) echo "$f: may not include $i"; bad=1 ;;
            *) [ -f "$i" ] || { echo "$f: $i is not in this folder"; bad=1; } ;;
        esac
    done
done
[ "$n" -gt 10 ] || { echo "only $n files of kernels: not the source tree?"; bad=1; }
[ $bad = 0 ] && echo "kernels: $n files keep to the rules"
exit $bad
