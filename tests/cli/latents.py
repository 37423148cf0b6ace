# SPDX-License-Identifier: MIT
"""usage: latents.py GOT WANT: "latents" of two safetensors files, F32 of one shape, within 5e-5 of each other (relative L2)."""
import array
import json
import struct
import sys


def latents(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8:8 + size])["latents"]
    first, beyond = entry["data_offsets"]
    numbers = array.array("f")
    numbers.frombytes(data[8 + size + first:8 + size + beyond])
    return entry["shape"], numbers


(shape, got), (wanted, want) = map(latents, sys.argv[1:3])
error = (sum((a - b) ** 2 for a, b in zip(got, want)) / sum(b * b for b in want)) ** .5
if shape != wanted or not error <= 5e-5:
    sys.exit(f"{sys.argv[1]}: {shape}, error {error:.3g}; {wanted} within 5e-5 is right")
