#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A model through diffusers, for `swd bench compare`: the same request as ours, prompt to file.

    diffusers_peer.py MODEL PROMPT OUT.png [options] --once    one picture, as a process
    diffusers_peer.py MODEL PROMPT OUT.png [options]           "ready" once loaded and warm; then a picture and its seconds
                                                               for every line read
"""
import argparse
import sys
import time

import torch
from diffusers import DiffusionPipeline


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("prompt")
    p.add_argument("out")
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--size", type=int, required=True)
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--guidance", type=float, default=1.0)
    p.add_argument("--max-tokens", type=int, default=256)
    p.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    p.add_argument("--once", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    dtype = torch.bfloat16 if a.precision == "bf16" else torch.float32
    pipe = DiffusionPipeline.from_pretrained(a.model, torch_dtype=dtype)
    pipe.set_progress_bar_config(disable=True)

    def image():
        generator = torch.Generator("cpu").manual_seed(1)
        with torch.no_grad():
            picture = pipe(a.prompt, num_inference_steps=a.steps, guidance_scale=a.guidance, height=a.size, width=a.size,
                           max_sequence_length=a.max_tokens, generator=generator).images[0]
        picture.save(a.out)

    image()
    if a.once:
        return
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        image()
        print(f"seconds {time.perf_counter() - start:.6f}", flush=True)


main()
