# SPDX-License-Identifier: MIT
"""End-to-end goldens of the bundled model by diffusers in float32: latents, and pixels where they are small.
usage: make_pipeline_goldens.py [MODEL_DIR] [OUT_DIR]      (torch 2.9.1, diffusers 0.39, transformers 4.57)"""
import sys, torch, torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from safetensors.torch import save_file

MODEL, OUT = (sys.argv[1:] + ["weights/emoji", "tests/goldens/pipeline"][len(sys.argv) - 1:])[:2]
SCALES = [4, 6, 8, 10, 12, 16]  # of sd3.5-medium-6 at 128 pixels
TABLE = FlowMatchEulerDiscreteScheduler(shift=3.0)
TABLE.set_timesteps(28)
SIGMAS = [TABLE.sigmas[i].item() for i in (0, 4, 7, 12, 14, 18)]
torch.set_grad_enabled(False)
pipe = StableDiffusion3Pipeline.from_pretrained(MODEL, torch_dtype=torch.float32)


def embed(prompts, encoders=("clip_l", "clip_g", "t5"), tokens=16):
    def ids(tokenizer, n):
        return tokenizer(prompts, padding="max_length", max_length=n, truncation=True, return_tensors="pt").input_ids

    hidden, pooled = [], []
    for name, tokenizer, encoder in (("clip_l", pipe.tokenizer, pipe.text_encoder), ("clip_g", pipe.tokenizer_2, pipe.text_encoder_2)):
        o = encoder(ids(tokenizer, tokenizer.model_max_length), output_hidden_states=True)
        keep = float(name in encoders)
        hidden.append(o.hidden_states[-2] * keep)
        pooled.append(o.text_embeds * keep)
    t5 = pipe.text_encoder_3(ids(pipe.tokenizer_3, tokens))[0] * float("t5" in encoders)
    h = torch.cat(hidden, -1)
    h = F.pad(h, (0, t5.shape[-1] - h.shape[-1]))
    return torch.cat([h, t5], 1), torch.cat(pooled, -1)


def velocity(x, sigma, context, pooled):
    t = torch.full((x.shape[0],), sigma * 1000, dtype=torch.float32)
    return pipe.transformer(x, timestep=t, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False)[0]


def side(length, s, last):
    return length if s == last else max(2, 2 * int(length * s / last / 2 + 0.5))


def scalewise(prompts, seed, size=(128, 128), encoders=("clip_l", "clip_g", "t5"), tokens=16):
    context, pooled = embed(prompts, encoders, tokens)
    generators = [torch.Generator("cpu").manual_seed(seed + j) for j in range(len(prompts))]
    sizes = [(side(size[1] // 8, s, 16), side(size[0] // 8, s, 16)) for s in SCALES]
    noise = lambda hw: torch.cat([torch.randn((1, 16, *hw), generator=g) for g in generators])
    x, steps = noise(sizes[0]), []
    for k, sigma in enumerate(SIGMAS):
        x0 = x - sigma * velocity(x, sigma, context, pooled)
        steps.append(x0)
        if k + 1 == len(SIGMAS):
            return x0, steps
        if sizes[k + 1] != sizes[k]:
            x0 = F.interpolate(x0, size=sizes[k + 1], mode="bicubic")
        x = (1 - SIGMAS[k + 1]) * x0 + SIGMAS[k + 1] * noise(sizes[k + 1])


def euler(prompts, seed, steps, guidance, negative="", size=(128, 128)):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    generators = [torch.Generator("cpu").manual_seed(seed + j) for j in range(len(prompts))]
    return pipe(prompts, negative_prompt=[negative] * len(prompts), num_inference_steps=steps, guidance_scale=guidance, width=size[0],
                height=size[1], generator=generators, max_sequence_length=16, output_type="latent").images


def pixels(latents):
    v = pipe.vae
    image = v.decode(latents / v.config.scaling_factor + v.config.shift_factor).sample
    return ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def save(name, latents, **more):
    save_file({"latents": latents.clone(memory_format=torch.contiguous_format), **more}, f"{OUT}/{name}.safetensors")
    print(name, tuple(latents.shape), latents.std().item())


x, steps = scalewise(["a red apple, 3d emoji"], 7)
save("scalewise", x, rgb=pixels(x), **{f"x0.{k}": s.contiguous() for k, s in enumerate(steps)})
x = euler(["3d emoji of a cat face"], 3, 28, 4.0)
save("euler", x, rgb=pixels(x))
save("euler_wide_negative", euler(["a rainbow, 3d emoji"], 11, 6, 3.0, "red, dark", (160, 96)))
save("euler_batch_plain", euler(["sunflower", "green book", ""], 5, 4, 1.0))
save("scalewise_wide_batch", scalewise(["birthday cake", "a dog, 3d emoji"], 2**40 + 1, (96, 144))[0])
save("scalewise_clip_g_t5", scalewise(["soccer ball"], 9, encoders=("clip_g", "t5"))[0])
save("scalewise_clip_l", scalewise(["soccer ball"], 9, encoders=("clip_l",), tokens=32)[0])
