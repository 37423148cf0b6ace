# SPDX-License-Identifier: MIT
"""Tiny random FLUX transformers in diffusers' layout with inputs and outputs of torch 2.9.1, diffusers 0.39 (float32).

    python tools/reference/make_flux_goldens.py tests/goldens/flux

NAME/config.json, NAME/*.safetensors   the network: one double block, one single block, all of it with and without guidance
NAME/io.safetensors                    "K/INPUT" and "K/velocity" of case K = 0, 1, ...; latents and velocity are [B, C, h, w]
"""
import json
import sys
from pathlib import Path

import diffusers
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import save_file

from random_models import shaken

OUT = Path(sys.argv[1])
FLUX = dict(in_channels=16, num_layers=1, num_single_layers=0, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=24, pooled_projection_dim=20, guidance_embeds=False, axes_dims_rope=(4, 6, 6))


def velocity(model, latents, t, context, pooled, guidance):
    """As the pipeline packs, calls and unpacks; t = 1000 sigma."""
    b, c, h, w = latents.shape
    v = model(hidden_states=FluxPipeline._pack_latents(latents, b, c, h, w), timestep=t / 1000, pooled_projections=pooled,
              guidance=torch.full([b], guidance) if model.config.guidance_embeds else None, encoder_hidden_states=context,
              txt_ids=torch.zeros(context.shape[1], 3), return_dict=False,
              img_ids=FluxPipeline._prepare_latent_image_ids(b, h // 2, w // 2, "cpu", torch.float32))[0]
    return FluxPipeline._unpack_latents(v, h, w, 1)


@torch.no_grad()
def flux(name, dtype, seed, shapes, drop=(), shard=None, **config):
    model = shaken(FluxTransformer2DModel(**{**FLUX, **config}), dtype, seed)
    g, io = torch.Generator().manual_seed(seed + 100), {}
    for k, (b, h, w, n) in enumerate(shapes):
        c = dict(latents=torch.randn(b, 4, h, w, generator=g), t=(1000 * torch.rand(b, generator=g)).round(),
                 context=torch.randn(b, n, 24, generator=g), pooled=torch.randn(b, 20, generator=g),
                 guidance=torch.tensor([3.5 + k]))
        c["velocity"] = velocity(model, c["latents"], c["t"], c["context"], c["pooled"], c["guidance"].item())
        io |= {f"{k}/{n}": t.contiguous() for n, t in c.items()}
    model.to(dtype).save_pretrained(OUT / name, **({"max_shard_size": shard} if shard else {}))
    save_file(io, OUT / name / "io.safetensors")
    file = OUT / name / "config.json"
    said = {k: v for k, v in json.loads(file.read_text()).items() if k not in drop}
    file.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


print("torch", torch.__version__, "diffusers", diffusers.__version__)
flux("double", torch.float32, 1, [(1, 8, 8, 5), (2, 4, 12, 7)], attention_head_dim=8, axes_dims_rope=(2, 2, 4))
flux("single", torch.float16, 2, [(1, 8, 8, 5), (2, 10, 6, 3)], num_layers=0, num_single_layers=1, axes_dims_rope=(0, 8, 8),
     drop=("guidance_embeds", "patch_size", "out_channels"))
flux("schnell", torch.float32, 3, [(1, 2, 6, 1), (2, 6, 10, 7)], num_single_layers=2, attention_head_dim=24,
     num_attention_heads=1, axes_dims_rope=(8, 8, 8))
flux("dev", torch.bfloat16, 4, [(1, 6, 6, 5), (2, 24, 10, 3)], num_layers=2, num_single_layers=2, guidance_embeds=True,
     shard="100KB")
