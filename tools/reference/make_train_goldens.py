#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What training takes from a picture, with torch's area interpolation and diffusers' autoencoder: tests/goldens/train/cache.safetensors."""
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from safetensors.torch import save_file

SCALES = [4, 6, 6, 9]  # latent sides, of an autoencoder of factor 2


def area(x, side):
    return F.interpolate(x, size=(side, side), mode="area")


def moments(vae, pixels):
    """Mean and deviation of the latents (z - shift) * scaling, z sampled."""
    c = vae.config
    d = vae.encode(pixels).latent_dist
    return torch.stack([(d.mean - c.shift_factor) * c.scaling_factor, d.std * c.scaling_factor])[:, 0]


def main(root):
    out = {}
    g = torch.Generator().manual_seed(3)
    for h, w, oh, ow in [(13, 17, 8, 8), (12, 12, 4, 6), (5, 7, 5, 7), (3, 2, 5, 4), (31, 1, 7, 1)]:
        x = torch.randn(1, 3, h, w, generator=g)
        y = F.interpolate(x, size=(oh, ow), mode="area")
        for name, t in (("x", x), ("y", y)):
            out[f"area.{h}x{w}.{oh}x{ow}.{name}"] = t[0].permute(1, 2, 0).contiguous()
    rgb = torch.randint(0, 256, (26, 23, 3), generator=g, dtype=torch.uint8)
    out["rgb"] = rgb
    square = rgb[1:24].permute(2, 0, 1)[None].float() / 255 * 2 - 1  # 23x23, in the middle
    for name in ("plain", "quant"):
        vae = AutoencoderKL.from_pretrained(root.parent / "vae" / name, torch_dtype=torch.float32).eval()
        factor = 2 ** (len(vae.config.block_out_channels) - 1)
        with torch.no_grad():
            for k, s in enumerate(SCALES if name == "plain" else [2]):
                pixels = area(square, factor * s)
                out[f"{name}.target.{k}"] = moments(vae, pixels)
                out[f"{name}.source.{k}"] = moments(vae, area(pixels, factor * SCALES[max(k - 1, 0)]) if name == "plain" else pixels)
    root.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in out.items()}, root / "cache.safetensors")


main(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/train"))
