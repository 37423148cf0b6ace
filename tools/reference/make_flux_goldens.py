# SPDX-License-Identifier: MIT
"""FLUX by torch 2.9.1, diffusers 0.39, transformers 4.57, peft 0.21 in float32, tiny and random.

    python tools/reference/make_flux_goldens.py tests/goldens/flux weights/emoji

NAME/config.json, NAME/*.safetensors   a transformer: one double block, one single block, all of it with and without guidance
NAME/io.safetensors                    "K/INPUT" and "K/velocity" of case K = 0, 1, ...; latents and velocity are [B, C, h, w]
schedule.txt     noise levels of the pipeline's schedulers, float32 words in hex, after a line that says whose
model            a pipeline's folder without its tokenizers (the second argument's tokenizer and tokenizer_3)
lora             an adapter of it in PEFT's layout
*.safetensors    "latents" of calls of it: of FluxPipeline (euler*), of oracle.py (scalewise*)
"""
import json
import shutil
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizerFast, T5Config, T5EncoderModel, T5TokenizerFast

import oracle
from random_models import lora_deltas, shake_lora, shaken

OUT, TOKENIZERS = Path(sys.argv[1]), Path(sys.argv[2])
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
                 guidance=torch.full([b], 3.5 + k))
        c["velocity"] = velocity(model, c["latents"], c["t"], c["context"], c["pooled"], c["guidance"][0].item())
        io |= {f"{k}/{n}": t.contiguous() for n, t in c.items()}
    model.to(dtype).save_pretrained(OUT / name, **({"max_shard_size": shard} if shard else {}))
    save_file(io, OUT / name / "io.safetensors")
    file = OUT / name / "config.json"
    said = {k: v for k, v in json.loads(file.read_text()).items() if k not in drop}
    file.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")


def schedules():
    with open(OUT / "schedule.txt", "w") as f:
        def put(head, config, steps, size):
            print(head, steps, file=f)
            sigmas = oracle.flux_scheduler(config, steps, size).sigmas.numpy().astype(np.float32)
            print(*(f"{w:08x}" for w in sigmas.view(np.uint32)), file=f)

        for shift, steps in ((1.0, 1), (1.0, 4), (3.0, 4), (0.7, 28), (1.0, 3)):
            put(f"static {shift!r}", {"shift": shift}, steps, (2, 2))
        for base, top, low, high, kind, side, steps in (
                (.5, 1.15, 256, 4096, "exponential", 128, 28), (.5, 1.15, 256, 4096, "exponential", 64, 4),
                (.5, 1.15, 256, 4096, "exponential", 2, 50), (.25, 2.0, 16, 100, "linear", 14, 9)):
            config = dict(use_dynamic_shifting=True, base_shift=base, max_shift=top, base_image_seq_len=low, max_image_seq_len=high,
                          time_shift_type=kind, shift=3.0)
            put(f"dynamic {side // 2 * (side // 2)} {base!r} {top!r} {low} {high} {int(kind == 'linear')}", config, steps, (side, side))


def make_pipeline():
    tokenizer, tokenizer_2 = CLIPTokenizerFast.from_pretrained(TOKENIZERS / "tokenizer"), T5TokenizerFast.from_pretrained(TOKENIZERS / "tokenizer_3")
    clip = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=16, num_attention_heads=2, intermediate_size=24,
                                        num_hidden_layers=2, projection_dim=8, max_position_embeddings=16, hidden_act="quick_gelu",
                                        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
                                        eos_token_id=tokenizer.eos_token_id))
    t5 = T5EncoderModel(T5Config(vocab_size=len(tokenizer_2), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2,
                                 feed_forward_proj="gated-gelu", relative_attention_num_buckets=8, relative_attention_max_distance=20))
    vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=2, layers_per_block=1, latent_channels=4, sample_size=32,
                        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, use_quant_conv=False,
                        use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159)
    transformer = FluxTransformer2DModel(**{**FLUX, "num_single_layers": 1, "num_attention_heads": 1, "joint_attention_dim": 16,
                                            "pooled_projection_dim": 16, "guidance_embeds": True})
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0, base_image_seq_len=16, max_image_seq_len=100)
    nets = {"transformer": transformer, "vae": vae, "text_encoder": clip, "text_encoder_2": t5}
    for i, (name, net) in enumerate(nets.items()):
        shaken(net, torch.bfloat16, 10 + i, 0.25 if net is t5 else 1.0)
    pipe = FluxPipeline(scheduler=scheduler, tokenizer=tokenizer, tokenizer_2=tokenizer_2, **nets)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(torch.bfloat16).save_pretrained(OUT / "model")
    for part in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(OUT / "model" / part)
    return pipe.to(torch.float32)


def euler(pipe, prompts, seed, steps, guidance, size, tokens):
    """(height, width) of latents, by the pipeline itself."""
    generators = [torch.Generator("cpu").manual_seed(seed + j) for j in range(len(prompts))]
    x = pipe(prompts, num_inference_steps=steps, guidance_scale=guidance, height=2 * size[0], width=2 * size[1], generator=generators,
             max_sequence_length=tokens, output_type="latent").images
    return FluxPipeline._unpack_latents(x, *size, 1)


def scalewise(pipe, prompts, seed, size, guidance=4.5, tokens=16, preset="flux-4"):
    scales, sigmas = oracle.preset(preset)
    velocity = oracle.FluxVelocity(pipe, prompts, guidance, tokens=tokens)
    return oracle.scalewise(velocity, oracle.Noise(seed, len(prompts), 4), oracle.at_sizes(*size, scales), sigmas)[-1]


def save_latents(name, x):
    save_file({"latents": x.clone(memory_format=torch.contiguous_format)}, OUT / f"{name}.safetensors")


@torch.no_grad()
def pipeline():
    pipe = make_pipeline()
    save_latents("euler_dev", euler(pipe, ["a red apple", "3d emoji"], 7, 4, 3.5, (8, 12), 512))
    save_latents("scalewise", scalewise(pipe, ["a cat", "a dog, 3d emoji"], 3, (10, 16)))
    save_latents("scalewise_paper", scalewise(pipe, ["a cat"], 4, (16, 8), 1.0, preset="flux-4-paper"))
    targets = r".*blocks\.0\.(attn\.to_(q|out\.0)|ff\.net\.2|proj_mlp|proj_out)"
    lora = get_peft_model(FluxTransformer2DModel.from_config(pipe.transformer.config), LoraConfig(r=2, lora_alpha=3, target_modules=targets))
    shake_lora(lora, 5)
    lora.save_pretrained(OUT / "lora")
    (OUT / "lora/README.md").unlink(missing_ok=True)
    with oracle.adapted(pipe.transformer, [(lora_deltas(lora), .75)]):
        save_latents("scalewise_lora", scalewise(pipe, ["a cat"], 9, (8, 8)))
    pipe.transformer.register_to_config(guidance_embeds=False)
    schnell = FluxTransformer2DModel.from_config(pipe.transformer.config)
    schnell.load_state_dict({k: v for k, v in pipe.transformer.state_dict().items() if "guidance" not in k})
    pipe.transformer, pipe.scheduler = schnell.eval(), FlowMatchEulerDiscreteScheduler(shift=1.0)
    save_latents("euler_schnell", euler(pipe, ["a rainbow"], 11, 4, 0.0, (12, 6), 16))


print("torch", torch.__version__, "diffusers", diffusers.__version__)
flux("double", torch.float32, 1, [(1, 8, 8, 5), (2, 4, 12, 7)], attention_head_dim=8, axes_dims_rope=(2, 2, 4))
flux("single", torch.float16, 2, [(1, 8, 8, 5), (2, 10, 6, 3)], num_layers=0, num_single_layers=1, axes_dims_rope=(0, 8, 8),
     drop=("guidance_embeds", "patch_size", "out_channels"))
flux("schnell", torch.float32, 3, [(1, 2, 6, 1), (2, 6, 10, 7)], num_single_layers=2, attention_head_dim=24,
     num_attention_heads=1, axes_dims_rope=(8, 8, 8))
flux("dev", torch.bfloat16, 4, [(1, 6, 6, 5), (2, 24, 10, 3)], num_layers=2, num_single_layers=2, guidance_embeds=True,
     shard="100KB")
schedules()
pipeline()
