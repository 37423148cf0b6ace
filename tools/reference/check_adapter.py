#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adapters that swd made, through peft and through diffusers, beside swd itself: same prompts and noise, in float32.

    python tools/reference/check_adapter.py build/tools/swd/swd MODEL ADAPTER...

MODEL is an SD3 folder, ADAPTER a folder with adapter_config.json, adapter_model.safetensors and swd.json, as `swd train` leaves it. Fails
if a tensor finds no place, if a scale is not alpha / rank, or if the first velocity or the latents of any step are more than 5e-5
(relative L2) from swd's. What the adapter changes is shown beside: a loader that left it out would be as far away.
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import PeftModel
from safetensors.torch import load_file

import oracle

ERROR_MAX, SEED, PROMPTS = 5e-5, 5, ["a red apple", "a smiling cat face"]


def by_peft(transformer, folder):
    PeftModel.from_pretrained(transformer, str(folder))  # in place


def by_diffusers(transformer, folder):
    transformer.load_lora_adapter(str(folder), prefix="base_model.model", weight_name="adapter_model.safetensors")


def distance(got, want):
    return float((got.double() - want.double()).norm() / want.double().norm())


class Adapter:
    def __init__(self, model, folder):
        self.model, self.folder = model, folder
        self.config = json.loads((folder / "adapter_config.json").read_text())
        self.tensors = load_file(folder / "adapter_model.safetensors")
        swd = json.loads((folder / "swd.json").read_text())
        preset = swd["presets"][swd["default"]]
        self.scales, self.sigmas = preset["scales"], preset["sigmas"][:len(preset["scales"])]
        self.tokens = swd.get("max_tokens", 256)
        self.pipe = StableDiffusion3Pipeline.from_pretrained(model)

    def noise(self):
        return oracle.Noise(SEED, len(PROMPTS), self.pipe.transformer.config.in_channels)

    def report(self, steps):
        """The first velocity, then the latents of every step (they begin with noise alone)."""
        first = self.noise()((self.scales[0],) * 2)
        return [(first - steps[0]) / self.sigmas[0], *steps]

    @torch.no_grad()
    def theirs(self, load):
        t = self.pipe.transformer = SD3Transformer2DModel.from_pretrained(self.model, subfolder="transformer").eval()
        if load:
            load(t, self.folder)
            self.check_taken(t)
        sizes = [(s, s) for s in self.scales]
        return self.report(oracle.scalewise(oracle.Velocity(self.pipe, PROMPTS, tokens=self.tokens), self.noise(), sizes, self.sigmas))

    def check_taken(self, transformer):
        modules = {n: m for n, m in transformer.named_modules() if hasattr(m, "lora_A")}
        assert 2 * len(modules) == len(self.tensors), f"{len(modules)} modules of {len(self.tensors)} tensors"
        for name, m in modules.items():
            (which, scale), = m.scaling.items()
            assert scale == self.config["lora_alpha"] / self.config["r"], f"{name}: scale {scale}"
            for part in "AB":
                got = getattr(m, f"lora_{part}")[which].weight
                assert torch.equal(got, self.tensors[f"base_model.model.{name}.lora_{part}.weight"].to(got.dtype)), f"{name}: {part} differs"

    def ours(self, program):
        side = self.scales[-1] * 2 ** (len(self.pipe.vae.config.block_out_channels) - 1)
        with tempfile.TemporaryDirectory() as t:
            command = [program, "generate", "-m", self.model, "--lora", self.folder, "--rng", "torch", "--seed", SEED, "--precision", "f32",
                       "--size", f"{side}x{side}", "-o", Path(t, "%d.png"), "--save-latents", Path(t, "latents.safetensors"), "--", *PROMPTS]
            subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
            file = load_file(Path(t, "latents.safetensors"))
        return self.report([file[f"x0.{k}"] for k in range(len(self.sigmas))])


def main(program, model, *folders):
    failed = False
    for folder in folders:
        adapter = Adapter(model, Path(folder))
        want = adapter.ours(program)
        changes = max(map(distance, adapter.theirs(None), want))
        for load in (by_peft, by_diffusers):
            velocity, *latents = map(distance, adapter.theirs(load), want)
            bad = not max(velocity, *latents) <= ERROR_MAX or changes < 100 * ERROR_MAX
            failed |= bad
            print(f"{'FAILED ' if bad else ''}{folder} {load.__name__}: {len(adapter.tensors)} tensors; velocity {velocity:.1e}, "
                  f"latents {' '.join(f'{e:.1e}' for e in latents)}; without it {changes:.1e}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 3 else __doc__)
