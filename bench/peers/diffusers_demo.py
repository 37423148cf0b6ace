#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The bundled model through diffusers in float32, for bench_demo: 28 guided steps at 128x128, prompt to file.

    diffusers_demo.py MODEL THREADS OUT.png --once      one image, as a process
    diffusers_demo.py MODEL THREADS OUT.png             "ready" once loaded; then an image and its seconds for every line read
"""
import sys
import time

import torch
from diffusers import StableDiffusion3Pipeline

PROMPT = "3d emoji of a red apple"


def main():
    model, threads, out = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    pipe = StableDiffusion3Pipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)

    def image():
        generator = torch.Generator("cpu").manual_seed(1)
        with torch.no_grad():
            picture = pipe(PROMPT, num_inference_steps=28, guidance_scale=4.0, height=128, width=128,
                           max_sequence_length=16, generator=generator).images[0]
        picture.save(out)

    if "--once" in sys.argv[4:]:
        image()
        return
    image()
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        image()
        print(f"seconds {time.perf_counter() - start:.6f}", flush=True)


main()
