# SPDX-License-Identifier: MIT
"""Small seeds for the fuzz targets of files: python tests/fuzz/make_corpus.py tests/fuzz/corpus"""
import io
import json
import struct
import sys
import tarfile
from pathlib import Path

out = Path(sys.argv[1])


def tensors(entries, data=None, **extra):
    """A safetensors file; entries: name -> (dtype, shape, begin, end)."""
    header = dict(extra)
    for name, (dtype, shape, begin, end) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    size = max([e[3] for e in entries.values()], default=0)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + (data or bytes(size))


def put(folder, name, data):
    path = out / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(data)


put("safetensors", "two", tensors({"a": ("F32", [2, 3], 0, 24), "b": ("BF16", [3], 24, 30)}, __metadata__={"format": "pt"}))
put("safetensors", "misaligned", tensors({"a": ("U8", [3], 0, 3), "b": ("F16", [2, 1], 3, 7), "c": ("I64", [], 7, 15)}))
put("safetensors", "none", tensors({"a": ("F32", [0, 4], 0, 0)}))
put("safetensors", "overlap", tensors({"a": ("F32", [2], 0, 8), "b": ("F32", [2], 4, 12)}))
put("safetensors", "overflow", tensors({"a": ("F32", [2**62, 4], 0, 8)}))
put("safetensors", "backwards", tensors({"a": ("F32", [1], 8, 4)}))
put("safetensors", "long", struct.pack("<Q", 2**63) + b"{}")
put("safetensors", "deep", struct.pack("<Q", 205) + b'{"a":' + b"[" * 200)

configs = [
    {"_class_name": "SD3Transformer2DModel", "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 3,
     "caption_projection_dim": 24, "dual_attention_layers": [0], "qk_norm": "rms_norm", "out_channels": None},
    {"block_out_channels": [32, 64], "down_block_types": ["DownEncoderBlock2D"] * 2,
     "up_block_types": ["UpDecoderBlock2D"] * 2, "norm_num_groups": 8, "scaling_factor": 1.5, "shift_factor": None},
    {"encoder_block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8], "num_encoder_blocks": [1, 2],
     "num_decoder_blocks": [2, 1], "act_fn": "relu"},
    {"model_type": "clip", "text_config": {"hidden_size": 64, "hidden_act": "gelu"}, "architectures": ["CLIPTextModel"]},
    {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new", "is_gated_act": True, "d_kv": 8, "num_heads": 2},
    {"shift": 3.0, "use_karras_sigmas": True, "shift_terminal": 0.1, "time_shift_type": "linear"},
    {"_class_name": "P", "vae": ["diffusers", "AutoencoderKL"], "text_encoder_3": [None, None], "force_zeros": True},
    {"presets": {"a": {"scales": [4, 8], "sigmas": [1, 0.5, 0]}}, "default": "a", "max_tokens": 16,
     "baseline": {"steps": 28, "guidance": 4.0, "shift": 3.0}},
    {"_class_name": "FluxTransformer2DModel", "num_layers": 1, "num_single_layers": 2, "attention_head_dim": 16,
     "axes_dims_rope": [4, 6, 6], "guidance_embeds": True, "out_channels": None},
    {"model_type": "clip", "projection_dim": 64, "vision_config": {"hidden_size": 64, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}},
    {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_resize": True},
    {"model_type": "inception_v3_fid", "image_size": 75, "width_divisor": 16},
]
for kind, config in enumerate(configs):
    put("config", str(kind), bytes([kind]) + json.dumps(config).encode())

Q = "transformer_blocks.0.attn.to_q"


def adapter(config, file):
    text = json.dumps(config).encode() if config else b""
    return struct.pack("<H", len(text)) + text + file


pair = lambda a, b: {a: ("F32", [2, 4], 0, 32), b: ("F32", [3, 2], 32, 56)}
peft = tensors(pair(f"base_model.model.{Q}.lora_A.weight", f"base_model.model.{Q}.lora_B.weight"))
put("lora", "peft", adapter({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"to_k": 3},
                             "alpha_pattern": {r"blocks\.\d+\.attn\.(?:to_q|to_k)": 8}}, peft))
put("lora", "dora", adapter({"r": 2, "use_dora": True}, peft))
put("lora", "plain", adapter(None, tensors({**pair(f"transformer.{Q}.lora.down.weight", f"transformer.{Q}.lora.up.weight"),
                                            f"transformer.{Q}.alpha": ("F32", [], 56, 60)})))
put("lora", "metadata", adapter(None, tensors(
    pair(f"transformer.{Q}.lora_A.weight", f"transformer.{Q}.lora_B.weight"),
    __metadata__={"lora_adapter_metadata": json.dumps({"transformer.r": 2, "transformer.lora_alpha": 1})})))


def bpe(vocab, merges, prompt):
    text = json.dumps(vocab).encode()
    return struct.pack("<HH", len(text), len(merges)) + text + merges + prompt


ENDS = {"<|startoftext|>": 6, "<|endoftext|>": 7}
letters = {"a": 0, "b": 1, "a</w>": 2, "b</w>": 3, "ab": 4, "ab</w>": 5, **ENDS}
merges = b"#version: 0.2\na b\na b</w>\n"
put("bpe", "plain", bpe(letters, merges, "ABab a!B <|endoftext|>e\u0323\u0301 \U0001f469\u200d\U0001f467".encode()))
put("bpe", "config", bpe(letters, merges, json.dumps({
    "pad_token": {"content": "a"}, "model_max_length": 16, "added_tokens_decoder": {
        "9": {"content": "ab!", "lstrip": True, "rstrip": True, "single_word": True, "normalized": True}}}).encode()))
put("bpe", "marks", bpe(letters, merges, ("a" + "\u0301\u0323\u0327" * 9 + "\u0130\u1100\u1161\u11a8\U00011935\U00011930").encode()))


def field(number, wire, body):
    return bytes([number << 3 | wire]) + body


def packed(number, body):
    n, length = len(body), b""
    while n > 127:
        length, n = length + bytes([n & 127 | 128]), n >> 7
    return field(number, 2, length + bytes([n]) + body)


def unigram(pieces, charsmap, prompt):
    model = b"".join(packed(1, packed(1, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, bytes([kind])))
                     for text, score, kind in pieces)
    model += packed(2, field(3, 0, b"\1")) + packed(3, packed(2, charsmap))
    return struct.pack("<H", len(model)) + model + prompt


units = [0] * 256  # a trie that maps A to a
units[0x41], units[2] = 0x41 | 1 << 8 | 0x43 << 10, 0
charsmap = struct.pack("<I256I", 1024, *units) + b"a\0"
pieces = [("<pad>", 0, 3), ("</s>", 0, 3), ("<unk>", 0, 2), ("\u2581", -2, 1), ("a", -3, 1), ("\u2581ab", -1, 1), ("b", -3, 1), ("x", 0, 4)]
put("unigram", "plain", unigram(pieces, charsmap, "Ab  aaB x</s><extra_id_3>e\u0301 \u3000".encode()))
put("unigram", "no_map", unigram(pieces, b"", b"ab ab  "))
put("unigram", "config", unigram(pieces, charsmap, json.dumps({"extra_ids": 3, "legacy": False, "model_max_length": 9}).encode()))

put("csv", "plain", b",file,caption\r\n0,a.png,\"a \"\"b\"\", c\"\n1,b.png,\n")
put("csv", "open", b"\xef\xbb\xbfa,b\n\"c\nd")


def tar(layout, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as t:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return buffer.getvalue().rstrip(b"\0") + bytes(1024 - len(buffer.getvalue().rstrip(b"\0")) % 512)


picture = (Path(__file__).parent / "corpus/png/gray.png").read_bytes()
put("dataset", "texts", tar(tarfile.USTAR_FORMAT, {"a.png": picture, "a.txt": b"a cat\n", "b.jpg": b"none"}))
put("dataset", "csv", tar(tarfile.USTAR_FORMAT, {"a.png": picture, "metainfo.csv": b",f,c\n0,a.png,x\n1,b.png,y\n2,\n"}))
put("dataset", "gnu", tar(tarfile.GNU_FORMAT, {"x" * 150 + ".png": picture, "x" * 150 + ".txt": b"long"}))
put("dataset", "pax", tar(tarfile.PAX_FORMAT, {"é" * 150 + ".png": picture, "é" * 150 + ".txt": b"long"}))

put("train_config", "plain", json.dumps({
    "data": ["a", "b"], "output": "o", "mode": "full", "scales": [4, 8], "sigmas": [1, 0.5], "steps": 10, "batch": 4,
    "micro_batch": 2, "resume": True, "lora_rank": 8, "precision": "bf16", "ema": 0.99, "guidance": -1}).encode())
put("train_config", "unknown", b'{"lerning_rate": 1e-5}')
put("checkpoint", "plain", json.dumps({"version": 1, "step": 250, "sum": "0123456789abcdef",
                                       "counters": {"samples": 1000, "ema": -5}, "config": "{\"a\": 1}"}).encode())
