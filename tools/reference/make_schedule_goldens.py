#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tables of diffusers' FlowMatchEulerDiscreteScheduler for tests/unit/test_schedule.c.

Usage: make_schedule_goldens.py OUTPUT_FOLDER        (diffusers 0.39)

schedule.txt: a line "full SHIFT N" is followed by N + 1 float32 words in hex; a line "hash SHIFT N H" has the FNV-1a hash of those
words instead (bytes little-endian)."""
import sys
from pathlib import Path

import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

FULL = [(3.0, 28), (3.0, 1), (3.0, 2), (1.0, 4), (1.15, 20), (0.5, 7), (17.0, 50)]
SHIFTS = [0.001, 0.1, 0.5, 1.0, 1.15, 1.7320508, 2.5, 3.0, 3.1, 5.0, 6.66, 12.0, 17.0, 1000.0]


def table(shift, n):
    s = FlowMatchEulerDiscreteScheduler(shift=shift)
    s.set_timesteps(n)
    return s.sigmas.numpy().astype(np.float32)


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = (h ^ b) * 0x100000001B3 % 2**64
    return h


def main():
    with open(Path(sys.argv[1]) / "schedule.txt", "w") as f:
        for shift, n in FULL:
            print(f"full {shift!r} {n}", file=f)
            print(*(f"{w:08x}" for w in table(shift, n).view(np.uint32)), file=f)
        for shift in SHIFTS:
            for n in list(range(1, 101)) + [250, 1000]:
                print(f"hash {shift!r} {n} {fnv(table(shift, n).tobytes()):016x}", file=f)


main()
