# SPDX-License-Identifier: MIT
"""End-to-end goldens of the bundled model by diffusers in float32: latents, and pixels where they are small.

    python tools/reference/make_pipeline_goldens.py weights/emoji tests/goldens/pipeline [NAME...]

NAME.safetensors: "latents" F32 [B, C, h, w], and where the test wants them "x0.K" of each step and "rgb" U8 [B, H, W, 3].
init.png: a picture to start from; lora_peft, lora_diffusers: adapters; tiny_vae: an AutoencoderTiny.
                                                (torch 2.9.1, diffusers 0.39, transformers 4.57, peft 0.21)
"""
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from PIL import Image
from safetensors.torch import save_file

import oracle
from random_models import lora_deltas, shake_lora, shaken

MODEL, OUT = Path(sys.argv[1]), Path(sys.argv[2])
CHOSEN = sys.argv[3:]
pipe = StableDiffusion3Pipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)


def scalewise(prompts, seed, size=(128, 128), init=None, strength=1.0, **text):
    """x0 of every step of sd3.5-medium-6."""
    scales, sigmas = oracle.preset("sd3.5-medium-6")
    sizes = oracle.at_sizes(size[1] // 8, size[0] // 8, scales)
    first, latents = 0, None
    if init:
        first = oracle.first_step(sigmas, strength)
        latents = oracle.encode(pipe.vae, oracle.picture(init, tuple(8 * s for s in sizes[first])))
    velocity = oracle.Velocity(pipe, prompts, **{"tokens": 16, **text})
    return oracle.scalewise(velocity, oracle.Noise(seed, len(prompts), 16), sizes[first:], sigmas[first:], latents)


def euler(prompts, seed, steps, guidance, negative="", size=(128, 128)):
    """The pipeline itself."""
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    generators = [torch.Generator("cpu").manual_seed(seed + j) for j in range(len(prompts))]
    return pipe(prompts, negative_prompt=[negative] * len(prompts), num_inference_steps=steps, guidance_scale=guidance, width=size[0],
                height=size[1], generator=generators, max_sequence_length=16, output_type="latent").images


def euler_init(prompts, seed, steps, guidance, init, strength):
    latents = oracle.encode(pipe.vae, oracle.picture(init, (128, 128)))
    return oracle.euler(oracle.Velocity(pipe, prompts, guidance, tokens=16), oracle.Noise(seed, len(prompts), 16), (16, 16),
                        oracle.sd3_scheduler(steps, 3.0), latents, strength)


def save(name, latents, **more):
    save_file({"latents": latents.clone(memory_format=torch.contiguous_format), **more}, OUT / f"{name}.safetensors")
    print(name, tuple(latents.shape), latents.std().item())


def pixels(latents):
    return torch.from_numpy(oracle.pixels(pipe.vae, latents)).contiguous()


def make_scalewise(name):
    steps = scalewise(["a red apple, 3d emoji"], 7)
    save(name, steps[-1], rgb=pixels(steps[-1]), **{f"x0.{k}": s.contiguous() for k, s in enumerate(steps)})


def make_euler(name):
    x = euler(["3d emoji of a cat face"], 3, 28, 4.0)
    save(name, x, rgb=pixels(x))


def make_init(name):
    """The apple, painted over: the first scale at most .8 is 80 of 128, so the picture shrinks by 1.6."""
    Image.fromarray(oracle.pixels(pipe.vae, scalewise(["a red apple, 3d emoji"], 7)[-1])[0]).save(OUT / "init.png", optimize=True)
    save(name, scalewise(["a green apple, 3d emoji"], 21, init=OUT / "init.png", strength=.8)[-1])


def make_adapters(name):
    """One adapter in each layout, random but small beside the weights, then both merged: peft at 1, and peft at .5 with the other at -1.25."""
    base = lambda: SD3Transformer2DModel.from_config(pipe.transformer.config)
    peft = get_peft_model(base(), LoraConfig(r=2, lora_alpha=3, target_modules=r".*blocks\.[03]\.(attn\.to_(q|out\.0)|ff\.net\.2)",
                                             rank_pattern={"to_out.0": 3}, alpha_pattern={r".*\.3\.ff\.net\.2": 5}))
    other = base()
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules=["1.attn.to_q", "3.attn.to_q", "7.attn2.to_q", "proj_out"]), other)
    deltas = []
    for seed, model in enumerate((peft, other)):
        shake_lora(model, seed)
        deltas.append(lora_deltas(model))
    peft.save_pretrained(OUT / "lora_peft")
    (OUT / "lora_peft/README.md").unlink(missing_ok=True)
    StableDiffusion3Pipeline.save_lora_weights(OUT / "lora_diffusers", get_peft_model_state_dict(other),
                                               transformer_lora_adapter_metadata=other.peft_config["default"].to_dict())
    run = lambda: scalewise(["a red apple, 3d emoji"], 7)[-1]
    with oracle.adapted(pipe.transformer, [(deltas[0], 1.0)]):
        save(f"{name}_peft", run())
    with oracle.adapted(pipe.transformer, [(deltas[0], .5), (deltas[1], -1.25)]):
        save(f"{name}_both", run())


def make_tiny_vae(name):
    """Pixels of the tiny decoder at 64x64."""
    tiny = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1, 1, 1, 1),
                           num_decoder_blocks=(1, 2, 1, 1), latent_channels=16, scaling_factor=1.25, shift_factor=.125)
    shaken(tiny, torch.bfloat16, 5).to(torch.bfloat16).save_pretrained(OUT / "tiny_vae")
    x = scalewise(["a red apple, 3d emoji"], 7, (64, 64))[-1]
    save(name, x, rgb=torch.from_numpy(oracle.pixels(tiny.float(), x)).contiguous())


CASES = {
    "scalewise": make_scalewise,
    "euler": make_euler,
    "euler_wide_negative": lambda n: save(n, euler(["a rainbow, 3d emoji"], 11, 6, 3.0, "red, dark", (160, 96))),
    "euler_batch_plain": lambda n: save(n, euler(["sunflower", "green book", ""], 5, 4, 1.0)),
    "scalewise_wide_batch": lambda n: save(n, scalewise(["birthday cake", "a dog, 3d emoji"], 2**40 + 1, (96, 144))[-1]),
    "scalewise_clip_g_t5": lambda n: save(n, scalewise(["soccer ball"], 9, encoders=("clip_g", "t5"))[-1]),
    "scalewise_clip_l": lambda n: save(n, scalewise(["soccer ball"], 9, encoders=("clip_l",), tokens=32)[-1]),
    "init_scalewise": make_init,
    "lora": make_adapters,
    "vae_tiny": make_tiny_vae,
    "init_euler": lambda n: save(n, euler_init(["a green apple, 3d emoji"] * 2, 21, 8, 4.0, OUT / "init.png", .6)[-1]),
}

with torch.no_grad():
    for name, make in CASES.items():
        if not CHOSEN or name in CHOSEN:
            make(name)
