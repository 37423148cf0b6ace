# SPDX-License-Identifier: MIT
"""Adapters as peft 0.21 and diffusers 0.39 write them, and the weights after their own merge.

    python tools/reference/make_lora_goldens.py tests/goldens/lora

base.safetensors       a tiny random SD3 transformer (only what the adapters touch, and one tensor that they do not)
peft/                  PEFT folder: alpha != rank, a rank pattern and an alpha pattern with regular expressions
diffusers/             pytorch_lora_weights.safetensors with lora_adapter_metadata
plain/                 the same layout without metadata: alpha = rank
merged.safetensors     "CASE/NAME": float32 weights after merging CASE in {peft, diffusers, plain, peft+plain (0.5, -0.75)}
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file

CONFIG = dict(sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
              num_attention_heads=3, joint_attention_dim=20, caption_projection_dim=24, pooled_projection_dim=16,
              pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm")
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_out"]


def base_model():
    torch.manual_seed(7)
    return SD3Transformer2DModel(**CONFIG).eval()


def shake(model, seed):
    """LoRA starts with B = 0, which would prove nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = torch.randn(p.shape, generator=generator) * 0.2


def peft_model(seed):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, lora_dropout=0.0,
                        rank_pattern={r"transformer_blocks.1.attn.to_q": 7, r"ff\.net\.\d+": 3, "ff.net.0.proj": 2},
                        alpha_pattern={r".*attn2?\.to_(k|v)": 9, "^proj_out": 5})
    model = get_peft_model(base_model(), config)
    shake(model, seed)
    return model


def injected(config, seed):
    model = base_model()
    inject_adapter_in_model(config, model)
    shake(model, seed)
    return model


def loaded(folder):
    """The adapter read back by diffusers itself, so that its own idea of alpha counts."""
    model = base_model()
    state, metadata = StableDiffusion3Pipeline.lora_state_dict(str(folder), return_lora_metadata=True)
    model.load_lora_adapter(state, prefix="transformer", metadata=metadata)
    return model


def merged(model, scales=None):
    """float32 weights of the adapted modules, from peft's own delta."""
    out = {}
    for name, module in model.named_modules():
        if not hasattr(module, "lora_A"):
            continue
        adapter = list(module.lora_A.keys())[0]
        weight = module.base_layer.weight.detach() + (scales or 1.0) * module.get_delta_weight(adapter).detach()
        out[name.removeprefix("base_model.model.") + ".weight"] = weight.contiguous()
    return out


def main():
    out = Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    (out / "plain").mkdir(parents=True)
    (out / "diffusers").mkdir()

    peft_model(1).save_pretrained(out / "peft")
    (out / "peft" / "README.md").unlink(missing_ok=True)

    config = LoraConfig(r=3, lora_alpha=5, target_modules=["attn.to_q", "attn.add_k_proj", "context_embedder"],
                        rank_pattern={"context_embedder": 5})
    model = injected(config, 2)
    StableDiffusion3Pipeline.save_lora_weights(out / "diffusers", get_peft_model_state_dict(model),
                                               transformer_lora_adapter_metadata=model.peft_config["default"].to_dict())
    plain = LoraConfig(r=2, lora_alpha=2, target_modules=["attn.to_q", "attn.to_v"])
    StableDiffusion3Pipeline.save_lora_weights(out / "plain", get_peft_model_state_dict(injected(plain, 3)))

    peft_case = merged(PeftModel.from_pretrained(base_model(), str(out / "peft")))
    cases = {"peft": peft_case, "diffusers": merged(loaded(out / "diffusers")), "plain": merged(loaded(out / "plain"))}
    base = base_model().state_dict()
    both = {}
    for name, weight in {**peft_case, **cases["plain"]}.items():
        total = base[name].clone()
        if name in peft_case:
            total += 0.5 * (peft_case[name] - base[name])
        if name in cases["plain"]:
            total += -0.75 * (cases["plain"][name] - base[name])
        both[name] = total
    cases["both"] = both

    touched = set().union(*cases.values()) | {"norm_out.linear.weight"}
    save_file({k: base[k].contiguous() for k in sorted(touched)}, out / "base.safetensors")
    save_file({f"{c}/{k}": v for c, tensors in cases.items() for k, v in tensors.items()}, out / "merged.safetensors")
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
