# SPDX-License-Identifier: MIT
"""One iteration of distillation beside torch's, in turn: python bench/peers/train_torch.py build/bench/bench_train weights/emoji

The same work for both: SwD's student with an adapter of rank 64 (diffusers, peft), MMD alone by the paper's kernel, features after block 4
of the frozen network, batch 64 at latent 16, AdamW, clipping. Each round is one iteration of torch, then one of ours; the first is
left out. Prints both medians, wall and processors, and their ratios.
"""
import os
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from peft import LoraConfig

ROUNDS, BATCH, SIDE, LOW, TEXT, BLOCK, RANK = int(os.environ.get("ROUNDS", 6)), 64, 16, 12, 32, 4, 64
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"]


class Stop(Exception):
    pass


class Torch:
    def __init__(self, folder, dtype):
        self.net = SD3Transformer2DModel.from_pretrained(folder, subfolder="transformer", torch_dtype=dtype)
        self.net.requires_grad_(False)
        self.net.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights="gaussian"))
        self.learnt = [p for n, p in self.net.named_parameters() if ".lora_" in n]
        self.optimizer = torch.optim.AdamW(self.learnt, lr=1e-4)
        self.net.transformer_blocks[BLOCK].register_forward_hook(self.tap)
        self.only, c = False, self.net.config
        shape = (BATCH, c.in_channels, SIDE, SIDE)
        self.low, self.target, self.eps, self.eps2 = (torch.randn(s, dtype=dtype) for s in (
            (BATCH, c.in_channels, LOW, LOW), shape, shape, shape))
        self.text = torch.randn(BATCH, TEXT, c.joint_attention_dim, dtype=dtype), torch.randn(BATCH, c.pooled_projection_dim, dtype=dtype)

    def tap(self, module, args, out):
        self.features = out[1]
        if self.only:
            raise Stop

    def velocity(self, x, t):
        return self.net(x, *self.text, torch.full((BATCH,), t), return_dict=False)[0]

    def features_of(self, x):
        self.only = True
        try:
            self.velocity(x, 300.0)
        except Stop:
            pass
        self.only = False
        return self.features.float().mean(1)

    def step(self):
        self.net.enable_adapters()
        for p in self.learnt:
            p.requires_grad_(True)
        x = 0.4 * F.interpolate(self.low, size=(SIDE, SIDE), mode="bicubic") + 0.6 * self.eps
        x0 = x - 0.6 * self.velocity(x, 600.0)
        self.net.disable_adapters()
        for p in self.learnt:
            p.requires_grad_(True)
        ours = self.features_of(0.7 * x0 + 0.3 * self.eps2)
        with torch.no_grad():
            real = self.features_of(0.7 * self.target + 0.3 * self.eps2)
        ((real - ours) ** 2).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.learnt, 10.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def compare(program, folder, name, dtype):
    torch_side = Torch(folder, dtype)
    ours = subprocess.Popen([program, "--precision", name, "--paced", folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    rows = []
    for _ in range(ROUNDS + 1):
        start, cpu = time.monotonic(), time.process_time()
        torch_side.step()
        row = [time.monotonic() - start, time.process_time() - cpu]
        ours.stdin.write("\n")
        ours.stdin.flush()
        words = ours.stdout.readline().split()
        rows.append(row + [float(words[0]), float(words[2])])
    ours.stdin.close()
    ours.wait()
    rows = rows[1:]
    m = [statistics.median(r[i] for r in rows) for i in range(4)]
    wall, cpu = (statistics.median(r[2 + i] / r[i] for r in rows) for i in (0, 1))
    print(f"| {name} | {m[0]:.2f} | {m[2]:.2f} | {wall:.2f} | {m[1]:.2f} | {m[3]:.2f} | {cpu:.2f} |", flush=True)


torch.set_num_threads(os.cpu_count())
print("| products | torch, s | swd, s | ratio | torch, processors, s | swd | ratio |\n|---|---|---|---|---|---|---|")
compare(sys.argv[1], sys.argv[2], "f32", torch.float32)
compare(sys.argv[1], sys.argv[2], "bf16", torch.bfloat16)
