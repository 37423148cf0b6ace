#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rewrites a diffusers SD3 transformer for stable-diffusion.cpp, which wants q, k and v in one tensor under their original name.

    sdcpp_weights.py DIR/transformer/diffusion_pytorch_model.safetensors OUT.safetensors

All other names stay as they are: it translates those itself. Only the standard library is used; tensors are copied one at a time.
"""
import json
import re
import struct
import sys

PARTS = {
    "attn.to_q": ("x_block.attn", 0), "attn.to_k": ("x_block.attn", 1), "attn.to_v": ("x_block.attn", 2),
    "attn2.to_q": ("x_block.attn2", 0), "attn2.to_k": ("x_block.attn2", 1), "attn2.to_v": ("x_block.attn2", 2),
    "attn.add_q_proj": ("context_block.attn", 0), "attn.add_k_proj": ("context_block.attn", 1),
    "attn.add_v_proj": ("context_block.attn", 2),
}


def place(name):
    """Name in the new file, and which third of it this tensor is (None: the whole)."""
    m = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)\.(weight|bias)", name)
    if not m or m[2] not in PARTS:
        return name, None
    side, third = PARTS[m[2]]
    return f"joint_blocks.{m[1]}.{side}.qkv.{m[3]}", third


def main():
    source, target = sys.argv[1:3]
    with open(source, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        groups = {}
        for name, entry in header.items():
            if name != "__metadata__":
                new, third = place(name)
                groups.setdefault(new, {})[third or 0] = entry
        out, at = {}, 0
        for new, parts in groups.items():
            entries = [parts[i] for i in sorted(parts)]
            n = sum(e["data_offsets"][1] - e["data_offsets"][0] for e in entries)
            shape = [sum(e["shape"][0] for e in entries)] + entries[0]["shape"][1:]
            out[new] = {"dtype": entries[0]["dtype"], "shape": shape, "data_offsets": [at, at + n]}
            at += n
        text = json.dumps(out).encode()
        text += b" " * (-len(text) % 8)
        with open(target, "wb") as g:
            g.write(struct.pack("<Q", len(text)) + text)
            for parts in groups.values():
                for i in sorted(parts):
                    begin, end = parts[i]["data_offsets"]
                    f.seek(8 + size + begin)
                    g.write(f.read(end - begin))


main()
