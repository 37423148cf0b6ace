#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Small random autoencoders of diffusers with their decoded and encoded results: tests/goldens/vae/NAME/."""
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file

from random_models import shaken


def shake(model, generator):
    """Norms away from 1 and 0, biases away from 0."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.add_(torch.randn(p.shape, generator=generator) * 0.2)


def kl(widths, groups, layers, quant, attention):
    n = len(widths)
    return AutoencoderKL(
        block_out_channels=widths, norm_num_groups=groups, layers_per_block=layers, latent_channels=4,
        down_block_types=["DownEncoderBlock2D"] * n, up_block_types=["UpDecoderBlock2D"] * n, sample_size=32,
        use_quant_conv=quant, use_post_quant_conv=quant, mid_block_add_attention=attention,
        scaling_factor=1.5305, shift_factor=0.0609)


CASES = {
    "plain": (lambda: kl([8, 16], 4, 1, False, True), torch.float32, 1, 5, 3),
    "quant": (lambda: kl([8, 16, 16], 8, 2, True, True), torch.float16, 2, 3, 4),
    "no_attention": (lambda: kl([8, 8, 12, 16], 4, 1, False, False), torch.bfloat16, 1, 2, 3),
    # the shape of SD3's at a sixteenth of its widths
    "sixteenth": (lambda: kl([8, 16, 32, 32], 4, 2, False, True), torch.bfloat16, 1, 2, 2),
    "tiny": (lambda: AutoencoderTiny(encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
                                     num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1), latent_channels=4,
                                     scaling_factor=1.25, shift_factor=0.125), torch.float32, 2, 3, 5),
    # attention of 12 channels, no multiple of 8
    "odd_attention": (lambda: kl([6, 12], 3, 1, False, True), torch.float32, 1, 4, 3),
}


def golden(model, path, g, batch, h, w):
    c = model.config
    tiny = isinstance(model, AutoencoderTiny)
    f = 2 ** (len(c.decoder_block_out_channels if tiny else c.block_out_channels) - 1)
    latents = torch.randn(batch, c.latent_channels, h, w, generator=g)
    image = torch.rand(batch, 3, f * h, f * w, generator=g) * 2 - 1
    with torch.no_grad():
        decoded = model.decode(latents / c.scaling_factor + c.shift_factor).sample
        mean = model.encode(image).latents if tiny else model.encode(image).latent_dist.mean
    encoded = (mean - c.shift_factor) * c.scaling_factor
    nhwc = lambda t: t.permute(0, 2, 3, 1).contiguous()
    save_file({"latents": latents, "image": nhwc(image), "decoded": nhwc(decoded), "encoded": encoded.contiguous()},
              path / "golden.safetensors")


def main(root):
    for i, (name, (make, dtype, batch, h, w)) in enumerate(CASES.items()):
        torch.manual_seed(100 + i)
        g = torch.Generator().manual_seed(i)
        model = make().eval()
        if isinstance(model, AutoencoderTiny):
            shaken(model, dtype, i)  # torch's own start would leave pictures that hardly vary
        else:
            shake(model, g)
        model = model.to(dtype)
        model.save_pretrained(root / name)
        golden(model.float(), root / name, g, batch, h, w)
    (root / "bundled").mkdir(parents=True, exist_ok=True)
    model = AutoencoderKL.from_pretrained("weights/emoji/vae", torch_dtype=torch.float32).eval()
    golden(model, root / "bundled", torch.Generator().manual_seed(9), 1, 8, 6)


main(Path(sys.argv[1] if len(sys.argv) > 1 else "tests/goldens/vae"))
