# SPDX-License-Identifier: MIT
"""What swd must give, computed by diffusers' and transformers' classes: text, scale-wise and Euler trajectories, pictures; of SD3's family
and of FLUX's."""
import contextlib

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image

TABLE = FlowMatchEulerDiscreteScheduler(shift=3.0)
TABLE.set_timesteps(28)
ALL = ("clip_l", "clip_g", "t5")
PRESETS = {"sd3.5-medium-6": ([32, 48, 64, 80, 96, 128], (0, 4, 7, 12, 14, 18)),
           "sd3.5-medium-4": ([64, 80, 96, 128], (0, 7, 14, 18)),
           "sd3.5-large-4": ([64, 80, 96, 128], (0, 7, 14, 18)),
           "flux-4": ([64, 80, 96, 128], (0, 7, 14, 18)),
           "flux-4-paper": ([32, 64, 96, 128], [1.0, .945, .790, .602])}


def preset(name):
    """Scales and sigmas; a tuple holds places in the table."""
    scales, sigmas = PRESETS[name]
    return scales, [TABLE.sigmas[i].item() for i in sigmas] if isinstance(sigmas, tuple) else sigmas


def side(length, s, last):
    return length if s == last else max(2, 2 * int(length * s / last / 2 + 0.5))


def at_sizes(h, w, scales):
    """Latent height and width at each scale."""
    return [(side(h, s, scales[-1]), side(w, s, scales[-1])) for s in scales]


def embed(pipe, prompts, encoders=ALL, tokens=256):
    """[B, CLIP length + tokens, D] and [B, P]: what SD3's pipeline makes; an encoder left out gives zeros."""
    def ids(tokenizer, n):
        return tokenizer(prompts, padding="max_length", max_length=n, truncation=True, return_tensors="pt").input_ids

    length = pipe.tokenizer.model_max_length
    hidden, pooled = [], []
    for name, tokenizer, encoder in (("clip_l", pipe.tokenizer, pipe.text_encoder), ("clip_g", pipe.tokenizer_2, pipe.text_encoder_2)):
        o = encoder(ids(tokenizer, length), output_hidden_states=True)
        keep = float(name in encoders)
        hidden.append(o.hidden_states[-2] * keep)
        pooled.append(o.text_embeds * keep)
    t5 = pipe.text_encoder_3(ids(pipe.tokenizer_3, tokens))[0] * float("t5" in encoders)
    h = torch.cat(hidden, -1)
    return torch.cat([F.pad(h, (0, t5.shape[-1] - h.shape[-1])), t5], 1), torch.cat(pooled, -1)


class Velocity:
    """The transformer at a noise level, guided if guidance > 1."""

    def __init__(self, pipe, prompts, guidance=0.0, negative="", encoders=ALL, tokens=256):
        self.pipe, self.guidance = pipe, guidance
        self.dtype = pipe.transformer.dtype
        self.text = embed(pipe, prompts, encoders, tokens)
        if guidance > 1:
            self.text = tuple(torch.cat(z) for z in zip(embed(pipe, [negative] * len(prompts), encoders, tokens), self.text))

    def __call__(self, x, sigma):
        context, pooled = self.text
        both = torch.cat([x, x]) if self.guidance > 1 else x
        t = torch.full((both.shape[0],), 1000 * sigma, dtype=torch.float32)
        v = self.pipe.transformer(both, timestep=t, encoder_hidden_states=context, pooled_projections=pooled, return_dict=False)[0]
        if self.guidance <= 1:
            return v
        u, c = v.chunk(2)
        return u + self.guidance * (c - u)


def embed_flux(pipe, prompts, encoders=ALL, tokens=512):
    """[B, tokens, D] of T5 and [B, P], CLIP-L's pooled state; an encoder left out gives zeros."""
    def ids(tokenizer, n):
        return tokenizer(prompts, padding="max_length", max_length=n, truncation=True, return_tensors="pt").input_ids

    pooled = pipe.text_encoder(ids(pipe.tokenizer, pipe.tokenizer.model_max_length)).pooler_output
    return (pipe.text_encoder_2(ids(pipe.tokenizer_2, tokens))[0] * float("t5" in encoders), pooled * float("clip_l" in encoders))


class FluxVelocity:
    """FLUX's transformer at a noise level, packing and unpacking as its pipeline does."""

    def __init__(self, pipe, prompts, guidance, encoders=ALL, tokens=512):
        self.pipe, self.guidance = pipe, guidance
        self.text = embed_flux(pipe, prompts, encoders, tokens)

    def __call__(self, x, sigma):
        (b, c, h, w), (context, pooled), transformer = x.shape, self.text, self.pipe.transformer
        t = (torch.tensor(sigma, dtype=torch.float32) * 1000).expand(b).to(x.dtype)
        v = transformer(hidden_states=FluxPipeline._pack_latents(x, b, c, h, w), timestep=t / 1000, pooled_projections=pooled,
                        guidance=torch.full([b], self.guidance, dtype=torch.float32) if transformer.config.guidance_embeds else None,
                        encoder_hidden_states=context, txt_ids=torch.zeros(context.shape[1], 3), return_dict=False,
                        img_ids=FluxPipeline._prepare_latent_image_ids(b, h // 2, w // 2, "cpu", x.dtype))[0]
        return FluxPipeline._unpack_latents(v, h, w, 1)


@contextlib.contextmanager
def adapted(transformer, adapters):
    """The transformer with [({weight name: delta}, scale), ...] added to its weights."""
    state = dict(transformer.named_parameters())
    kept = {n: state[n].data.clone() for deltas, _ in adapters for n in deltas}
    for deltas, scale in adapters:
        for n, d in deltas.items():
            state[n].data += (scale * d).to(state[n].dtype)
    yield
    for n, v in kept.items():
        state[n].data = v


class Noise:
    """torch.randn((1, C, h, w)) of a generator per image."""

    def __init__(self, seed, n, channels, dtype=torch.float32):
        self.generators = [torch.Generator("cpu").manual_seed(seed + j) for j in range(n)]
        self.channels, self.dtype = channels, dtype

    def __call__(self, size):
        return torch.cat([torch.randn((1, self.channels, *size), generator=g, dtype=torch.float32) for g in self.generators]).to(self.dtype)


def first_step(sigmas, strength):
    return next(k for k, s in enumerate(sigmas) if s <= strength)


def start(noise, size, sigma, init):
    """Noise, or the clean latents of a picture noised to sigma."""
    return noise(size) if init is None else (1 - sigma) * init + sigma * noise(size)


def scalewise(velocity, noise, sizes, sigmas, init=None):
    """x0 of every step; init: clean latents of the first size."""
    x, steps = start(noise, sizes[0], sigmas[0], init), []
    for k, sigma in enumerate(sigmas):
        x0 = x - sigma * velocity(x, sigma)
        steps.append(x0)
        if k + 1 == len(sigmas):
            return steps
        if sizes[k + 1] != sizes[k]:
            x0 = F.interpolate(x0, size=sizes[k + 1], mode="bicubic")
        x = (1 - sigmas[k + 1]) * x0 + sigmas[k + 1] * noise(sizes[k + 1])


def sd3_scheduler(steps, shift):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler


def flux_scheduler(config, steps, size, shift=None):
    """As FLUX's pipeline sets it up for latents of (height, width); shift: instead of what the folder says."""
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config, **({"shift": shift, "use_dynamic_shifting": False} if shift else {}))
    c = scheduler.config
    mu = calculate_shift(size[0] // 2 * (size[1] // 2), c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler


def euler(velocity, noise, size, scheduler, init=None, strength=1.0):
    """x0 of every step that runs: the scheduler's steps, its float32 sigmas."""
    sigmas, steps = scheduler.sigmas.tolist(), len(scheduler.timesteps)
    first = 0 if init is None else first_step(sigmas[:-1], strength)
    scheduler.set_begin_index(first)
    x, out = start(noise, size, sigmas[first], init), []
    for k in range(first, steps):
        v = velocity(x, sigmas[k])
        out.append(x - sigmas[k] * v)
        x = scheduler.step(v, scheduler.timesteps[k], x, return_dict=False)[0]
    out[-1] = x
    return out


def pixels(vae, latents):
    """U8 [B, H, W, 3]."""
    c = vae.config
    image = vae.decode(latents / c.scaling_factor + (c.shift_factor or 0)).sample
    return ((image / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def encode(vae, rgb):
    """Clean latents of U8 or float32 [H, W, 3] in 0..255."""
    c = vae.config
    x = torch.from_numpy(np.ascontiguousarray(rgb)).to(vae.dtype).permute(2, 0, 1)[None] / 127.5 - 1
    mean = vae.encode(x).latents if isinstance(vae, AutoencoderTiny) else vae.encode(x).latent_dist.mean
    return (mean - (c.shift_factor or 0)) * c.scaling_factor


def picture(path, size):
    """A picture file brought to (height, width) pixels: float32 [H, W, 3] in 0..255, area means when it shrinks."""
    rgb = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)
    if rgb.shape[:2] == tuple(size):
        return rgb
    x = F.interpolate(torch.from_numpy(rgb).permute(2, 0, 1)[None], size=size, mode="area")
    return x[0].permute(1, 2, 0).numpy()
