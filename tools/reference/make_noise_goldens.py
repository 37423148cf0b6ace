#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""torch.randn of CPU generators for tests/unit/test_rng.c.

Usage: make_noise_goldens.py OUTPUT_FOLDER           (torch 2.9)

noise.txt: "seed S" starts a generator; "randn N" is one call, followed by its float32 words in hex (the last 48 only if N is larger);
"rand N" is torch.rand of a new generator with that seed."""
import sys
from pathlib import Path

import numpy as np
import torch

SEEDS = [0, 1, 42, 2**32 - 1, 2**32 + 5, 2**63 - 1]
SIZES = [3, 1, 15, 16, 17, 100, 7, 31, 32, 4096, 5, 1023, 1]


def main():
    with open(Path(sys.argv[1]) / "noise.txt", "w") as f:
        for seed in SEEDS:
            print(f"seed {seed}", file=f)
            g = torch.Generator("cpu").manual_seed(seed)
            print("rand 16", file=f)
            print(*(f"{w:08x}" for w in torch.rand(16, generator=g).numpy().view(np.uint32)), file=f)
            g = torch.Generator("cpu").manual_seed(seed)
            for n in SIZES:
                x = torch.randn(n, generator=g).numpy()
                print(f"randn {n}", file=f)
                print(*(f"{w:08x}" for w in x[-48:].view(np.uint32)), file=f)


main()
