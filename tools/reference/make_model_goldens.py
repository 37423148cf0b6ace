# SPDX-License-Identifier: MIT
"""Tiny random networks in diffusers' layout with inputs and outputs of torch 2.9.1, diffusers 0.39, transformers 4.57 (float32).

    python tools/reference/make_model_goldens.py tests/goldens/models

NAME/config.json, NAME/*.safetensors   the network; every norm weight, bias and table is shaken away from 0 and 1
NAME/io.safetensors                    "K/INPUT" and "K/OUTPUT" of case K = 0, 1, ...
"""
import sys
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import SD3Transformer2DModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, T5Config, T5EncoderModel

OUT = Path(sys.argv[1])
SD3 = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=16,
           num_attention_heads=2, joint_attention_dim=24, caption_projection_dim=32, pooled_projection_dim=20,
           pos_embed_max_size=12)
TABLES = ("pos_embed.pos_embed", "embedding.weight", "attention_bias.weight", "shared.weight", "embed_tokens.weight")


def shaken(model, dtype, seed, qk_gain=None, faint=False):
    """Random weights that the storage type holds exactly, computed with in float32.

    qk_gain: products q.k of the size that trained networks have, where no norm (T5: no scale) keeps them small; a softmax
    of large ones picks one key, and then rounding decides which.
    faint: the first norms see rows so small that their epsilon shows.
    """
    g = torch.Generator().manual_seed(seed)
    tensors = dict(model.named_parameters())
    tensors |= {n: b for n, b in model.named_buffers() if n.endswith("pos_embed")}
    for name, p in tensors.items():
        noise = torch.randn(p.shape, generator=g)
        if p.ndim == 1:
            p.data = (1 + 0.3 * noise) if "norm" in name and name.endswith("weight") else 0.2 * noise
        elif name.endswith(TABLES):
            p.data = 0.7 * noise
        else:
            # temb and modulation as mild as trained ones: t = 1000 rad in float32 is 6e-5 off before the first layer
            mild = "time" in name or (".norm1" in name or "norm_out" in name)
            p.data = noise * ((0.6 if mild else 1.0) / p[0].numel() ** 0.5)
        if qk_gain and name.split(".")[-2] in ("to_q", "to_k", "add_q_proj", "add_k_proj", "q"):
            p.data = p.data * qk_gain
        if faint and (name.startswith("pos_embed.") or (name.endswith(TABLES) and "attention_bias" not in name)):
            p.data = p.data * 0.03
    return model.to(dtype).float().eval()


def save(name, model, dtype, cases, **kw):
    model.to(dtype).save_pretrained(OUT / name, **kw)
    io = {f"{k}/{n}": t.detach().contiguous() for k, case in enumerate(cases) for n, t in case.items()}
    save_file(io, OUT / name / "io.safetensors")


@torch.no_grad()
def sd3(name, dtype, seed, shapes, **config):
    model = shaken(SD3Transformer2DModel(**{**SD3, **config}), dtype, seed, None if "qk_norm" in config else 0.5, name == "sd35m")
    g, cases = torch.Generator().manual_seed(seed + 100), []
    for b, h, w, n in shapes:
        c = dict(latents=torch.randn(b, 4, h, w, generator=g), t=(1000 * torch.rand(b, generator=g)).round(),
                 context=torch.randn(b, n, 24, generator=g), pooled=torch.randn(b, 20, generator=g))
        c["velocity"] = model(c["latents"], c["context"], c["pooled"], c["t"], return_dict=False)[0]
        cases.append(c)
    save(name, model, dtype, cases, **({"max_shard_size": "150KB"} if name == "sd35l" else {}))


@torch.no_grad()
def t5(name, dtype, seed, proj):
    config = T5Config(vocab_size=50, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=3, feed_forward_proj=proj,
                      relative_attention_num_buckets=8, relative_attention_max_distance=20)
    model = shaken(T5EncoderModel(config), dtype, seed, 0.25, name == "t5_gated")
    cases = []
    for b, n in ((1, 33), (2, 7)):
        ids = torch.randint(0, 50, (b, n), generator=torch.Generator().manual_seed(n))
        cases.append(dict(ids=ids.int(), hidden=model(ids)[0]))
    save(name, model, dtype, cases)


@torch.no_grad()
def clip(name, dtype, seed, act, eos):
    config = CLIPTextConfig(vocab_size=60, hidden_size=32, intermediate_size=64, projection_dim=24, num_hidden_layers=3,
                            num_attention_heads=2, max_position_embeddings=17, hidden_act=act, eos_token_id=eos,
                            bos_token_id=58, pad_token_id=1)
    model = shaken(CLIPTextModelWithProjection(config), dtype, seed, None, name == "clip_gelu")
    cases = []
    for b, n in ((1, 17), (2, 9)):
        ids = torch.randint(3, 40, (b, n), generator=torch.Generator().manual_seed(n))
        ids[:, 0] = 58
        for i in range(b):
            ids[i, 4 + i:] = 59  # the largest id, first of several
            ids[i, 2 + i] = 7    # and the one of the other convention
        o = model(ids, output_hidden_states=True)
        cases.append(dict(ids=ids.int(), hidden=o.hidden_states[-2], pooled=o.text_embeds))
    save(name, model, dtype, cases)


print("torch", torch.__version__, "diffusers", diffusers.__version__, "transformers", transformers.__version__)
sd3("sd3", torch.float32, 1, [(1, 8, 8, 5), (2, 4, 12, 7)])
sd3("sd35l", torch.bfloat16, 2, [(1, 6, 6, 5), (2, 24, 10, 3)], qk_norm="rms_norm", num_layers=2,
    attention_head_dim=32, caption_projection_dim=64)
sd3("sd35m", torch.float16, 3, [(1, 8, 8, 5), (2, 10, 4, 7)], qk_norm="rms_norm", dual_attention_layers=(0, 1))
t5("t5_gated", torch.bfloat16, 4, "gated-gelu")
t5("t5_relu", torch.float32, 5, "relu")
clip("clip_quick", torch.float32, 6, "quick_gelu", 2)
clip("clip_gelu", torch.float16, 7, "gelu", 7)
