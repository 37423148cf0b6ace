# SPDX-License-Identifier: MIT
"""Gradients of the training losses and a few iterations of training, by torch's autograd, diffusers' SD3Transformer2DModel and peft.

    python tools/reference/make_distill_goldens.py tests/goldens

Reads the tiny networks models/sd3 and models/sd35m, writes train/NAME/: student/ and fake/ (PEFT adapters), io.safetensors with the
inputs ("low", "eps_mmd", ...), for each loss "LOSS/loss" and "LOSS/student" (or fake, head): gradients, all tensors flattened in order
of their names; "flow/full": every 7th of the gradients of all weights. train/sd35m/loop.safetensors: draws and parameters of three
iterations. All in float64, stored as float32. train/sd35m/peft.json: configuration, keys and shapes of the adapter that peft itself writes.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

ROOT = Path(sys.argv[1])
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"]
RANK, ALPHA, BLOCK, GUIDANCE, B = 2, 3, 1, 3.0, 2
WEIGHTS = dict(mmd=1.0, dmd=0.7, gan=0.3, discriminator=0.2)


def widths(d):
    return [int(w) for w in torch.linspace(d, 1, 5, dtype=torch.float64).tolist()]


class Head(torch.nn.Module):
    def __init__(self, d):
        super().__init__()
        w = widths(d)
        self.layers = torch.nn.ModuleList(
            torch.nn.ModuleDict(dict(norm=torch.nn.LayerNorm(a), linear=torch.nn.Linear(a, b))) for a, b in zip(w, w[1:]))

    def forward(self, features):
        x = features.mean(1)
        for layer in self.layers:
            x = layer["linear"](F.gelu(layer["norm"](x)))
        return x


class Nets:
    """Teacher, student and fake model on one base, and the head."""

    def __init__(self, name, seed):
        torch.manual_seed(seed)
        self.base = SD3Transformer2DModel.from_pretrained(ROOT / "models" / name).double().eval().requires_grad_(False)
        self.full = {n: p for n, p in self.base.named_parameters()}
        for adapter in ("student", "fake"):
            self.base.add_adapter(LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS, init_lora_weights="gaussian"), adapter)
            for n, p in self.base.named_parameters():
                if ".lora_" in n and f".{adapter}." in n:
                    p.data = torch.randn_like(p) * (0.5 / p.shape[-1] ** 0.5)
        self.base.double()
        self.head = Head(self.base.config.caption_projection_dim).double()
        for n, p in self.head.named_parameters():
            if "norm" in n:
                p.data += 0.2 * torch.randn_like(p)
        for p in list(self.base.parameters()) + list(self.head.parameters()):
            p.data = p.data.float().double()
        self.base.transformer_blocks[BLOCK].register_forward_hook(self.keep)
        self.features = None

    def keep(self, module, args, out):
        self.features = out[1]

    def adapter(self, which):
        return {n.replace(f".{which}.", "."): p for n, p in self.base.named_parameters() if ".lora_" in n and f".{which}." in n}

    def run(self, which, x, sigma, text):
        """Velocity, and features after the block."""
        if which == "teacher":
            self.base.disable_adapters()
        else:
            self.base.enable_adapters()
            self.base.set_adapter(which)
        for a in ("student", "fake"):
            for p in self.adapter(a).values():
                p.requires_grad_(True)
        v = self.base(x, text[0], text[1], 1000 * sigma, return_dict=False)[0]
        return v, self.features


def at(sigma):
    return sigma.view(-1, 1, 1, 1)


def noised(x, sigma, eps):
    return (1 - at(sigma)) * x + at(sigma) * eps


def student_x0(nets, io):
    x = F.interpolate(io["low"], size=io["target"].shape[-2:], mode="bicubic")
    x = noised(x, io["sigma_start"], io["eps_start"])
    return x - at(io["sigma_start"]) * nets.run("student", x, io["sigma_start"], text(io))[0]


def text(io, suffix=""):
    return io["context" + suffix], io["pooled" + suffix]


def flow(nets, io):
    x = noised(io["target"], io["sigma_mmd"], io["eps_mmd"])
    v = nets.run("student", x, io["sigma_mmd"], text(io))[0]
    return F.mse_loss(v, io["eps_mmd"] - io["target"])


def rbf(x, y):
    def k(a, b):
        return torch.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * 100.0 ** 2))
    n = len(x)
    off = 1 - torch.eye(n)
    return (k(x, x) * off).sum() / (n * (n - 1)) + (k(y, y) * off).sum() / (n * (n - 1)) - 2 * k(x, y).mean()


def mmd(nets, io, kernel, which, x0):
    ours = nets.run(which, noised(x0, io["sigma_mmd"], io["eps_mmd"]), io["sigma_mmd"], text(io))[1]
    with torch.no_grad():
        real = nets.run(which, noised(io["target"], io["sigma_mmd"], io["eps_mmd"]), io["sigma_mmd"], text(io))[1]
    if kernel == "rbf":
        return torch.stack([rbf(a, b) for a, b in zip(ours, real)]).mean()
    d = real.mean(1) - ours.mean(1)
    if kernel == "linear":
        return (d ** 2).sum()
    return (torch.clamp((d ** 2 + 1e-3 ** 2).sqrt(), min=1e-5) - 1e-3).mean()


def dmd(nets, io, x0):
    sigma = io["sigma_dmd"]
    with torch.no_grad():
        x = noised(x0, sigma, io["eps_dmd"])
        c, u = nets.run("teacher", x, sigma, text(io))[0], nets.run("teacher", x, sigma, text(io, "0"))[0]
        real = x - at(sigma) * (u + GUIDANCE * (c - u))
        fake = x - at(sigma) * nets.run("fake", x, sigma, text(io))[0]
        p_real, p_fake = x0 - real, x0 - fake
        g = torch.nan_to_num((p_real - p_fake) / p_real.abs().mean(dim=(1, 2, 3), keepdim=True))
    return 0.5 * F.mse_loss(x0, (x0 - g).detach())


def gan(nets, io, x0):
    f = nets.run("fake", noised(x0, io["sigma_gan"], io["eps_gan"]), io["sigma_gan"], text(io))[1]
    return F.softplus(-nets.head(f)).mean()


def fake(nets, io):
    sigma, eps = io["sigma_gan"], io["eps_gan"]
    with torch.no_grad():
        x0 = student_x0(nets, io)
    x = noised(x0, sigma, eps)
    v, f = nets.run("fake", x, sigma, text(io))
    loss = F.mse_loss(x - at(sigma) * v, x0)
    real = nets.run("fake", noised(io["target"], sigma, eps), sigma, text(io))[1]
    return loss + WEIGHTS["discriminator"] * (F.softplus(nets.head(f)).mean() + F.softplus(-nets.head(real)).mean())


def total(nets, io):
    x0 = student_x0(nets, io)
    return WEIGHTS["mmd"] * mmd(nets, io, "huber", "fake", x0) + WEIGHTS["dmd"] * dmd(nets, io, x0) + WEIGHTS["gan"] * gan(nets, io, x0)


LOSSES = {
    "flow": (flow, ("student",)),
    "linear": (lambda n, io: mmd(n, io, "linear", "teacher", student_x0(n, io)), ("student",)),
    "huber": (lambda n, io: mmd(n, io, "huber", "fake", student_x0(n, io)), ("student",)),
    "rbf": (lambda n, io: mmd(n, io, "rbf", "teacher", student_x0(n, io)), ("student",)),
    "dmd": (lambda n, io: dmd(n, io, student_x0(n, io)), ("student",)),
    "gan": (lambda n, io: gan(n, io, student_x0(n, io)), ("student",)),
    "total": (total, ("student",)),
    "fake": (fake, ("fake", "head")),
}


def learnt(nets, which):
    """In order of the names that the C side has."""
    if which == "full":
        return nets.full
    p = nets.adapter(which) if which != "head" else {n.removeprefix("layers."): p for n, p in nets.head.named_parameters()}
    return dict(sorted(p.items()))


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors]).float().contiguous()


def draws(g, shape):
    io = {}
    for kind, low, high in (("start", 0.9, 0.9), ("mmd", 0.1, 0.6), ("dmd", 0.2, 0.9), ("gan", 0.05, 0.95)):
        io["sigma_" + kind] = (low + (high - low) * torch.rand(shape[0], generator=g)).double()
        io["eps_" + kind] = torch.randn(shape, generator=g).double()
    return io


def inputs(nets, seed):
    g, c = torch.Generator().manual_seed(seed), nets.base.config
    shape = (B, c.in_channels, 8, 8)
    io = dict(low=torch.randn(B, c.in_channels, 6, 6, generator=g), target=torch.randn(shape, generator=g))
    for s in ("", "0"):
        io["context" + s] = torch.randn(B, 5, c.joint_attention_dim, generator=g)
        io["pooled" + s] = torch.randn(B, c.pooled_projection_dim, generator=g)
    return {k: v.double() for k, v in io.items()} | draws(g, shape)


def save_adapter(nets, which, folder):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"base_model.model." + n: p.detach().float().contiguous() for n, p in nets.adapter(which).items()},
              folder / "adapter_model.safetensors")
    config = dict(peft_type="LORA", r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")


def save_what_peft_writes(name, file):
    model = SD3Transformer2DModel.from_pretrained(ROOT / "models" / name)
    with tempfile.TemporaryDirectory() as t:
        get_peft_model(model, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=TARGETS)).save_pretrained(t)
        config = json.loads(Path(t, "adapter_config.json").read_text())
        shapes = {n: list(x.shape) for n, x in sorted(load_file(Path(t, "adapter_model.safetensors")).items())}
    del config["base_model_name_or_path"]  # a path of this machine
    config["target_modules"].sort()  # a set
    file.write_text(json.dumps(dict(config=config, shapes=shapes), sort_keys=True) + "\n")


def gradients(nets, io, out):
    for name, (loss, sets) in LOSSES.items():
        for p in list(nets.base.parameters()) + list(nets.head.parameters()):
            p.grad = None
        value = loss(nets, io)
        value.backward()
        out[name + "/loss"] = value.detach().float().reshape(1)
        for which in sets:
            out[f"{name}/{which}"] = flat(p.grad for p in learnt(nets, which).values())
    nets.base.disable_adapters()
    base = dict(sorted((n.replace(".base_layer.", "."), p) for n, p in nets.full.items()))
    for p in base.values():
        p.requires_grad_(True)
        p.grad = None
    x = noised(io["target"], io["sigma_mmd"], io["eps_mmd"])
    v = nets.base(x, *text(io), 1000 * io["sigma_mmd"], return_dict=False)[0]
    F.mse_loss(v, io["eps_mmd"] - io["target"]).backward()
    out["flow/full"] = flat(p.grad for p in base.values())[::7].contiguous()
    for p in base.values():
        p.requires_grad_(False)
        p.grad = None


def loop(nets, io, out):
    """Three iterations: two updates of fake model and head, then one of the student, each with its own draws."""
    sets = {w: list(learnt(nets, w).values()) for w in ("student", "fake", "head")}
    opt = {w: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2) for w, p in sets.items()}
    clip = dict(student=0.05, fake=1.5)  # fake model and head by the norm of both: some of their updates are longer
    g = torch.Generator().manual_seed(77)

    def update(loss, which, data):
        for p in list(nets.base.parameters()) + list(nets.head.parameters()):
            p.grad = None
        loss(nets, data).backward()
        torch.nn.utils.clip_grad_norm_([p for w in which for p in sets[w]], clip[which[0]])
        for w in which:
            opt[w].step()

    for i in range(3):
        for k in range(3):
            data = draws(g, io["target"].shape)
            data = {n: t.float().double() for n, t in data.items()}
            out |= {f"{i}/{k}/{n}": t.float() for n, t in data.items()}
            update(fake if k < 2 else total, ("fake", "head") if k < 2 else ("student",), io | data)
        for w in sets:
            out[f"{i}/{w}"] = flat(p.detach() for p in sets[w])


for name, seed in (("sd3", 11), ("sd35m", 12)):
    nets = Nets(name, seed)
    io = {k: v.float().double() for k, v in inputs(nets, seed + 100).items()}
    folder = ROOT / "train" / name
    for which in ("student", "fake"):
        save_adapter(nets, which, folder / which)
    out = {k: v.float().contiguous() for k, v in io.items()}
    out["head"] = flat(p.detach() for p in learnt(nets, "head").values())
    gradients(nets, io, out)
    save_file(out, folder / "io.safetensors")
    if name == "sd35m":
        save_what_peft_writes(name, folder / "peft.json")
        out = {}
        loop(nets, io, out)
        save_file(out, folder / "loop.safetensors")
    print(name, {k: float(v) for k, v in out.items() if k.endswith("/loss")})
