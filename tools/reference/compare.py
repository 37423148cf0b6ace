#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the program with diffusers on random tiny pipelines, prompts, sizes, schedules and adapters, in float32.

    python tools/reference/compare.py build/tools/swd/swd [--family sd3|flux] [--seeds 0:50] [--requests 6] [--keep DIR]

Each seed draws one model folder (random_models.py) and a few requests to it. A request fails if a latent of any step is more than
5e-5 (relative L2) from diffusers' or a pixel more than 1 of 255. What float32 itself leaves open is shown beside: diffusers'
float32 result against its float64 result; a request where that exceeds 1e-5 is chaotic and only counted.

--bf16 runs each request in bf16 as well and holds its last latents to docs/precision.md.
"""
import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from diffusers.utils import logging
from PIL import Image
from safetensors.torch import load_file, save_file

import oracle
from random_flux import RandomFlux
from random_models import RandomPipeline, adapter

LATENTS_MAX, PIXELS_MAX, CHAOS_MIN = 5e-5, 1, 1e-5
WORDS = ("a red apple 3d emoji cat's face, flat! !! ! the UPPER case naïve Ærø 日本語 красный 🍎 👩‍👩‍👧 👍🏽 e\u0301 <|endoftext|> </s> "
         "<pad> <unk> \u200b \u00a0x 1234 3.14 --- #$% ½ ﬁ İ don't").split(" ")


class Refused(Exception):
    pass


def draw_prompt(r):
    kind = r.random()
    if kind < .1:
        return r.choice(["", " ", "!", "!!", "\t", "<|endoftext|>", "</s>"])
    n = r.choice([1, 3, 8, 8, 150])
    return r.choice(["", "", " "]) + r.choice([" ", " ", "  ", ","]).join(r.choice(WORDS) for _ in range(n))


class Request:
    """One drawn call: its arguments, and diffusers' result."""

    all_encoders = oracle.ALL

    def side_max(self):
        t = self.pipe.transformer.config
        return t.pos_embed_max_size * t.patch_size

    def patch_size(self):
        return self.pipe.transformer.config.patch_size

    def usual_size(self):
        side = self.pipe.transformer.config.sample_size
        return (side - side % self.patch,) * 2

    def __init__(self, model, folder, seed):
        self.r = r = random.Random(seed)
        self.model, self.pipe, self.folder = model, model.pipe, folder
        v = self.pipe.vae.config
        self.factor, self.patch = 2 ** (len(v.block_out_channels) - 1), self.patch_size()
        side_max = min(self.side_max(), 24)
        draw_side = lambda: r.randint(max(1, 4 // self.patch), side_max // self.patch) * self.patch
        self.h, self.w = self.usual_size() if r.random() < .2 else (draw_side(), draw_side())
        self.seed = r.choice([0, r.randrange(1000), r.randrange(2**62)])
        self.n_prompts, self.count = r.choice([(1, 1), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1)])
        self.prompts = [draw_prompt(r) for _ in range(self.n_prompts)]
        self.encoders = self.all_encoders if r.random() < .7 else tuple(r.sample(self.all_encoders, r.randint(1, len(self.all_encoders) - 1)))
        self.tokens = r.choice([None, None, 1, 7, 33])
        self.guidance = self.negative = self.init = self.tiny = None
        self.args = ["--rng", "torch", "--seed", str(self.seed), "-n", str(self.count),
                     "--size", f"{self.w * self.factor}x{self.h * self.factor}"]
        if self.patch == 2 and r.random() < .6 or self.patch == 1 and r.random() < .5:
            self.draw_scalewise()
        else:
            self.draw_euler()
        self.draw_rest()

    def draw_scalewise(self):
        r = self.r
        self.sampler = "scalewise"
        if r.random() < .4:
            name = r.choice(list(oracle.PRESETS))
            scales, self.sigmas = oracle.preset(name)
            self.args += ["--preset", name]
            self.default_tokens = 512
        else:
            n = r.randint(1, 6)
            scales = sorted(2 * r.randint(1, 20) for _ in range(n))
            self.sigmas = [1.0] + sorted((round(r.uniform(.05, .99), r.choice([2, 4, 9])) for _ in range(n - 1)), reverse=True)
            if len(set(self.sigmas)) < n:
                self.sigmas = [1.0 - k / n for k in range(n)]
            self.args += ["--scales", ",".join(map(str, scales)), "--sigmas", ",".join(map(repr, self.sigmas + [0] * r.randint(0, 1)))]
        self.sizes = oracle.at_sizes(self.h, self.w, scales)
        if r.random() < .2:
            self.guidance = r.choice([1.0, 2.5])

    def draw_euler(self):
        r = self.r
        self.sampler, self.shift, self.steps = "euler", 3.0, r.randint(1, 6)
        self.args += ["--sampler", "euler", "--steps", str(self.steps)]
        if r.random() < .5:
            self.shift = r.choice([1.0, 2.0, 6.0, 0.5])
            self.args += ["--shift", str(self.shift)]
        self.guidance = r.choice([None, None, 0.0, 1.0, 1.5, 7.0])
        if r.random() < .4:
            self.negative = draw_prompt(r)
            self.args += ["--negative", self.negative]

    def draw_rest(self):
        r = self.r
        if self.guidance is not None:
            self.args += ["--guidance", str(self.guidance)]
        else:
            self.guidance = self.default_guidance()
        if self.tokens:
            self.args += ["--max-tokens", str(self.tokens)]
        if self.encoders != self.all_encoders:
            self.args += ["--text-encoders", ",".join(self.encoders)]
        if r.random() < .3:
            self.args += ["--batch", str(r.randint(1, 3))]
        self.adapters = [(r.randrange(10**6), round(r.uniform(-1, 1.5), 2)) for _ in range(r.choice([0, 0, 0, 1, 2]))]
        if r.random() < .3:
            self.draw_init()
        self.use_tiny = r.random() < .25

    def default_guidance(self):
        return 4.5 if self.sampler == "euler" else None

    def scheduler(self):
        return oracle.sd3_scheduler(self.steps, self.shift)

    def draw_init(self):
        r = self.r
        self.strength = round(r.uniform(.3, 1), 2)
        sigmas = self.sigmas if self.sampler == "scalewise" else None
        if sigmas and min(sigmas) > self.strength:
            self.strength = 1.0
        if not sigmas:
            self.strength = min(1.0, max(self.strength, round(float(self.scheduler().sigmas[-2]) + .01, 2)))
        grow = r.choice([1, 1, 2, 1.3])  # what grows is linear in swd: diffusers has no such rule to compare with
        size = (int(self.w * self.factor * grow), int(self.h * self.factor * grow))
        rgb = np.random.default_rng(r.randrange(1000)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        self.init = self.folder / ("init.jpg" if r.random() < .5 else "init.png")
        Image.fromarray(rgb).save(self.init)
        self.args += ["--init", str(self.init), "--strength", str(self.strength)]

    def prepare(self):
        """Files that the call names."""
        self.deltas = []
        for i, (seed, scale) in enumerate(self.adapters):
            where = self.folder / f"adapter{i}"
            layout, deltas = adapter(self.model, where, seed)
            file = {"peft": "", "diffusers": "/pytorch_lora_weights.safetensors", "plain": ""}[layout]
            self.args += ["--lora", f"{where}{file}={scale}" if scale != 1 else f"{where}{file}"]
            self.deltas.append((deltas, scale))
        if self.use_tiny:
            self.tiny = self.model.tiny_vae(self.folder / "tiny")
            self.args += ["--vae-tiny", str(self.folder / "tiny")]

    def default_max_tokens(self):
        return getattr(self, "default_tokens", None) or min(256, self.model.t5_length)

    def velocity(self, prompts):
        return oracle.Velocity(self.pipe, prompts, self.guidance or 0.0, self.negative or "", self.encoders,
                               self.tokens or self.default_max_tokens())

    def channels(self):
        return self.pipe.transformer.config.in_channels

    @torch.no_grad()
    def reference(self, dtype=torch.float32):
        """x0 of every step, in dtype."""
        nets = self.model.networks()
        for net in nets:
            net.to(dtype)
        old = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with oracle.adapted(self.pipe.transformer, self.deltas):
                return [x.float() for x in self.trajectory(dtype)]
        finally:
            torch.set_default_dtype(old)
            for net in nets:
                net.float()

    def trajectory(self, dtype):
        prompts = [p for p in self.prompts for _ in range(self.count)]
        velocity = self.velocity(prompts)
        noise = oracle.Noise(self.seed, len(prompts), self.channels(), dtype)
        first, init = 0, None
        sizes = self.sizes if self.sampler == "scalewise" else [(self.h, self.w)]
        if self.init:
            if self.sampler == "scalewise":
                first = oracle.first_step(self.sigmas, self.strength)
            h, w = sizes[first]
            init = oracle.encode(self.pipe.vae, oracle.picture(self.init, (h * self.factor, w * self.factor))).to(dtype)
        if self.sampler == "scalewise":
            return oracle.scalewise(velocity, noise, sizes[first:], self.sigmas[first:], init)
        return oracle.euler(velocity, noise, sizes[0], self.scheduler(), init, getattr(self, "strength", 1.0))


class FluxRequest(Request):
    all_encoders = ("clip_l", "t5")

    def side_max(self):
        return 24

    def patch_size(self):
        return 2

    def usual_size(self):
        return (8, 8)

    def draw_scalewise(self):
        super().draw_scalewise()
        self.guidance = self.r.choice([None, None, 0.0, 1.0, 7.5])

    def draw_euler(self):
        r = self.r
        self.sampler, self.shift, self.steps = "euler", r.choice([None, None, None, 1.0, 2.5]), r.choice([1, 2, 4, 4, 7])
        self.args += ["--sampler", "euler", "--steps", str(self.steps)] + (["--shift", str(self.shift)] if self.shift else [])
        self.guidance = r.choice([None, None, 0.0, 1.0, 7.5])

    def default_guidance(self):
        return 3.5 if self.sampler == "euler" else 4.5

    def scheduler(self):
        return oracle.flux_scheduler(self.pipe.scheduler.config, self.steps, (self.h, self.w), self.shift)

    def default_max_tokens(self):
        return 512

    def velocity(self, prompts):
        return oracle.FluxVelocity(self.pipe, prompts, self.guidance, self.encoders, self.tokens or self.default_max_tokens())

    def channels(self):
        return self.pipe.transformer.config.in_channels // 4


FAMILIES = {"sd3": (RandomPipeline, Request), "flux": (RandomFlux, FluxRequest)}


def distance(got, want):
    return float((got.double() - want.double()).norm() / want.double().norm().clamp_min(1e-12))


def bf16_tolerance(model):
    """Of a trajectory: docs/precision.md."""
    return 2 * 2**-8 * (model.layers() + model.text_layers() + 2) ** .5


def run(program, model_dir, request, folder, precision="f32"):
    """The program's latents of every step, and its pictures."""
    latents = folder / "latents.safetensors"
    command = [program, "generate", "-m", model_dir, "-o", folder / "%d.png", "--save-latents", latents, "--json", "--threads", "1", "--precision", precision,
               *request.args,
               "--", *request.prompts]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    request.command = [str(c) for c in command]
    if done.returncode:
        raise Refused(f"status {done.returncode}: {done.stderr.strip()}\n  {' '.join(request.command)}")
    said = json.loads(done.stdout)
    images = [np.asarray(Image.open(i["file"])) for i in said["images"]]
    return load_file(latents), images, said


def compare(program, request_class, model, model_dir, folder, seed, bf16):
    """One request: (failures, worst latent error, worst pixel, float32's own error)."""
    request = request_class(model, folder, seed)
    request.prepare()
    got, images, said = run(program, model_dir, request, folder)
    want = request.reference()
    failures = []
    if len(want) != len(got) - 1:
        failures.append(f"{len(got) - 1} steps, diffusers has {len(want)}")
    errors = [distance(got[f"x0.{k}"], x) if got[f"x0.{k}"].shape == x.shape else float("inf") for k, x in enumerate(want)]
    errors.append(distance(got["latents"], want[-1]) if got["latents"].shape == want[-1].shape else float("inf"))
    own = 0.0
    if max(errors) > LATENTS_MAX / 5:
        own = max(distance(a, b) for a, b in zip(want, request.reference(torch.float64)))
    if max(errors) > LATENTS_MAX:
        failures.append("latents " + " ".join(f"{e:.1e}" for e in errors))
    with torch.no_grad():
        rgb = oracle.pixels(request.tiny or model.pipe.vae, got["latents"])
    off = max(int(np.abs(i.astype(int) - w.astype(int)).max()) for i, w in zip(images, rgb))
    if off > PIXELS_MAX:
        failures.append(f"a pixel is off by {off}")
    if bf16:
        rough = distance(run(program, model_dir, request, folder, "bf16")[0]["latents"], got["latents"])
        request.rough = rough / bf16_tolerance(model)
        if request.rough > 1:
            failures.append(f"bf16 is off by {rough:.1e}, {request.rough:.2f} of its tolerance")
    chaotic = own > CHAOS_MIN
    return request, [] if chaotic and max(errors) < 10 * own + LATENTS_MAX else failures, max(errors), off, own


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--family", choices=FAMILIES, default="sd3")
    parser.add_argument("--seeds", default="0:20", help="FIRST:BEYOND")
    parser.add_argument("--requests", type=int, default=6, help="to each model")
    parser.add_argument("--tokenizers", default="weights/emoji", help="folder that holds tokenizer, tokenizer_2, tokenizer_3")
    parser.add_argument("--bf16", action="store_true", help="run each request in bf16 as well")
    parser.add_argument("--keep", help="a folder for the models and calls that failed")
    a = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", message=".*alpha_pattern keys did not match.*")  # drawn so on purpose
    first, beyond = map(int, a.seeds.split(":"))
    total = failed = chaotic = 0
    worst = rough = 0.0
    for seed in range(first, beyond):
        with tempfile.TemporaryDirectory() as t:
            model_dir = Path(t, "model")
            torch.manual_seed(seed)
            model = FAMILIES[a.family][0](seed, Path(a.tokenizers))
            model.save(model_dir)
            for k in range(a.requests):
                folder = Path(t, f"request{k}")
                folder.mkdir()
                total += 1
                try:
                    request, failures, error, off, own = compare(a.program, FAMILIES[a.family][1], model, model_dir, folder, seed * 1000 + k, a.bf16)
                    args = " ".join(repr(c) if " " in c or not c else c for c in request.command[2:])[:600]
                    chaotic += own > CHAOS_MIN
                    rough = max(rough, getattr(request, "rough", 0.0))
                    worst = max(worst, 0.0 if own > CHAOS_MIN else error)
                except Exception as e:  # the run goes on: every finding counts
                    failures, error, off, own, args = [str(e) if isinstance(e, Refused) else traceback.format_exc().strip().splitlines()[-1]], 0, 0, 0, ""
                if failures:
                    failed += 1
                    print(f"FAILED seed {seed} request {k}: {'; '.join(failures)} (float32's own: {own:.1e})\n  {args}", flush=True)
                    if a.keep:
                        shutil.copytree(t, Path(a.keep, f"{seed}-{k}"), dirs_exist_ok=True)
    print(f"{total} requests, {failed} failed, {chaotic} chaotic; worst latent error {worst:.2e}" +
          (f", bf16 at most {rough:.2f} of its tolerance" if a.bf16 else ""))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
