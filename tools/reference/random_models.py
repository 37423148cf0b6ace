# SPDX-License-Identifier: MIT
"""Random tiny SD3 pipelines and adapters in the layouts that diffusers and peft write, for compare.py.

Every dimension of every config is drawn; every norm, bias, gate and table is shaken away from 0 and 1. Sizes of products and of
modulation are those of trained networks, so that rounding, not chaos, separates two float32 computations.
"""
import json
import random
import shutil
from pathlib import Path

import torch
from diffusers import (AutoencoderKL, AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel,
                       StableDiffusion3Pipeline)
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, inject_adapter_in_model
from transformers import (CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizerFast, T5Config, T5EncoderModel,
                          T5TokenizerFast)

TABLES = ("pos_embed.pos_embed", "embedding.weight", "attention_bias.weight", "shared.weight", "embed_tokens.weight")
KEYS = ("to_q", "to_k", "add_q_proj", "add_k_proj", "q", "q_proj", "k_proj")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@torch.no_grad()
def shaken(model, dtype, seed, qk_gain=1.0):
    """Random weights that dtype holds exactly, computed with in float32. qk_gain: as make_model_goldens.py has it."""
    g = torch.Generator().manual_seed(seed)
    tensors = dict(model.named_parameters())
    tensors |= {n: b for n, b in model.named_buffers() if n.endswith("pos_embed")}
    for name, p in tensors.items():
        noise = torch.randn(p.shape, generator=g)
        if p.ndim == 1:
            p.data = (1 + 0.3 * noise) if "norm" in name and name.endswith("weight") else 0.2 * noise
        elif name.endswith(TABLES):
            p.data = 0.7 * noise
        else:
            mild = "time" in name or ".norm1" in name or ".norm.linear" in name or "norm_out" in name
            gain = (0.6 if mild else 1.0) * (qk_gain if name.split(".")[-2] in KEYS else 1.0)
            p.data = noise * gain / p[0].numel() ** 0.5
    if isinstance(model, AutoencoderTiny):  # pixels around the middle of their range, most inside it
        model.decoder.layers[-1].weight.mul_(0.3)
        model.decoder.layers[-1].bias.add_(0.5)
    return model.to(dtype).float().eval()


class RandomPipeline:
    """One drawn pipeline: `pipe` computes in float32, `save` writes its folder."""

    clip_class = CLIPTextModelWithProjection
    modules = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_out", "context_embedder",
               "norm_out.linear", "norm1.linear", "norm1_context.linear", "add_k_proj", "add_v_proj", "pos_embed.proj",
               "time_text_embed.timestep_embedder.linear_1"]

    def __init__(self, seed, tokenizers):
        self.rng = r = random.Random(seed)
        self.seed = seed
        self.dtypes = {k: r.choice(DTYPES) for k in ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")}
        self.shards = r.random() < .3
        channels = r.choice([4, 8, 16])
        clips = [self.clip(tokenizers / n, i) for i, n in enumerate(("tokenizer", "tokenizer_2"))]
        wide = clips[0][1].config.hidden_size + clips[1][1].config.hidden_size
        joint = wide + r.choice([0, 0, 5, 24])
        pooled = clips[0][1].config.projection_dim + clips[1][1].config.projection_dim
        vae = self.vae(channels)
        transformer = self.transformer(channels, joint, pooled)
        t5_tokenizer, t5 = self.t5(tokenizers / "tokenizer_3", joint)
        self.pipe = StableDiffusion3Pipeline(
            transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae,
            text_encoder=clips[0][1], tokenizer=clips[0][0], text_encoder_2=clips[1][1], tokenizer_2=clips[1][0],
            text_encoder_3=t5, tokenizer_3=t5_tokenizer)
        self.pipe.set_progress_bar_config(disable=True)

    def clip(self, folder, i):
        r = self.rng
        tokenizer = CLIPTokenizerFast.from_pretrained(folder)
        if i == 0:
            self.clip_length = r.choice([8, 16, 21, 77])
        tokenizer.model_max_length = self.clip_length
        heads, head = r.choice([(1, 8), (2, 8), (4, 8), (3, 16), (1, 40), (2, 24)])
        config = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=heads * head, num_attention_heads=heads, intermediate_size=r.choice([16, 37, 64]),
            num_hidden_layers=r.randint(1, 4), projection_dim=r.choice([8, 13, 32]), hidden_act=r.choice(["quick_gelu", "gelu"]),
            max_position_embeddings=self.clip_length + r.choice([0, 0, 3]), layer_norm_eps=r.choice([1e-5, 1e-3]),
            bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
            eos_token_id=r.choice([2, tokenizer.eos_token_id]))
        model = self.clip_class(config)
        return tokenizer, shaken(model, self.dtypes["text_encoder_2" if i else "text_encoder"], self.seed * 10 + i)

    def t5(self, folder, joint):
        r = self.rng
        tokenizer = T5TokenizerFast.from_pretrained(folder)
        tokenizer.model_max_length = self.t5_length = r.choice([16, 40, 300])
        buckets = r.choice([8, 16, 32])
        config = T5Config(
            vocab_size=max(2000, len(tokenizer)), d_model=joint, d_kv=r.choice([8, 16, 24]), d_ff=r.choice([16, 37, 64]), num_layers=r.randint(1, 3),
            num_heads=r.randint(1, 4), feed_forward_proj=r.choice(["gated-gelu", "gated-gelu", "relu"]),
            relative_attention_num_buckets=buckets, relative_attention_max_distance=r.choice([buckets, 20, 128]) + 8,
            layer_norm_epsilon=r.choice([1e-6, 1e-4]))
        return tokenizer, shaken(T5EncoderModel(config), self.dtypes["text_encoder_3"], self.seed * 10 + 2, 0.25)

    def vae(self, channels):
        r = self.rng
        groups, n = r.choice([1, 2, 4, 5, 8]), r.randint(1, 4)
        widths = [groups * r.choice([1, 2, 3, 4]) * (2 if groups < 4 else 1) for _ in range(n)]
        model = AutoencoderKL(
            block_out_channels=widths, norm_num_groups=groups, layers_per_block=r.randint(1, 3), latent_channels=channels,
            down_block_types=["DownEncoderBlock2D"] * n, up_block_types=["UpDecoderBlock2D"] * n, sample_size=32,
            use_quant_conv=r.random() < .5, use_post_quant_conv=r.random() < .5, mid_block_add_attention=r.random() < .6,
            scaling_factor=r.choice([1.5305, 0.18215, 0.7]), shift_factor=r.choice([None, 0.0609, -0.3]))
        return shaken(model, self.dtypes["vae"], self.seed * 10 + 3)

    def transformer(self, channels, joint, pooled):
        r = self.rng
        heads, head = r.choice([(1, 8), (2, 16), (3, 8), (2, 40), (1, 72), (4, 16)])
        layers = r.randint(1, 4)
        dual = sorted(r.sample(range(layers), r.randint(0, layers))) if r.random() < .6 else []
        norm = "rms_norm" if dual or r.random() < .5 else None
        model = SD3Transformer2DModel(
            sample_size=r.choice([4, 8, 12]), patch_size=r.choice([1, 2, 2, 2, 2, 4]), in_channels=channels, out_channels=channels,
            num_layers=layers, num_attention_heads=heads, attention_head_dim=head, joint_attention_dim=joint,
            caption_projection_dim=heads * head, pooled_projection_dim=pooled, pos_embed_max_size=r.choice([12, 13, 24]),
            dual_attention_layers=tuple(dual), qk_norm=r.choice([norm, None]) if dual else norm)
        gain = 1.0 if model.config.qk_norm else 0.5
        return shaken(model, self.dtypes["transformer"], self.seed * 10 + 4, gain)

    def save(self, folder):
        """As save_pretrained, each network in its own type, some in shards; tokenizers without tokenizer.json."""
        folder = Path(folder)
        self.pipe.save_pretrained(folder)
        for name, dtype in self.dtypes.items():
            shutil.rmtree(folder / name)
            model = getattr(self.pipe, name).to(dtype)
            model.save_pretrained(folder / name, **({"max_shard_size": "40KB"} if self.shards else {}))
            model.float()
        for part in folder.glob("tokenizer*/tokenizer.json"):
            part.unlink()

    def networks(self):
        return [getattr(self.pipe, name) for name in self.dtypes]

    def text_layers(self):
        """Of the encoder that has most."""
        p = self.pipe
        return max(p.text_encoder.config.num_hidden_layers, p.text_encoder_2.config.num_hidden_layers, p.text_encoder_3.config.num_layers)

    def layers(self):
        return self.pipe.transformer.config.num_layers

    def tiny_vae(self, folder):
        """An AutoencoderTiny of the same factor and channels."""
        r, n = self.rng, len(self.pipe.vae.config.block_out_channels)
        width, channels = r.choice([4, 8, 12]), self.pipe.vae.config.latent_channels
        blocks = lambda: tuple(r.randint(1, 3) for _ in range(n))
        model = AutoencoderTiny(encoder_block_out_channels=(width,) * n, decoder_block_out_channels=(width,) * n,
                                num_encoder_blocks=blocks(), num_decoder_blocks=blocks(), latent_channels=channels,
                                scaling_factor=r.choice([1.0, 1.25]), shift_factor=r.choice([0.0, 0.125]))
        dtype = r.choice(DTYPES)
        model = shaken(model, dtype, self.seed * 10 + 5)
        model.to(dtype).save_pretrained(folder)
        return model.float()


def shake_lora(model, seed):
    """A fresh adapter has B = 0, which would prove nothing."""
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = torch.randn(p.shape, generator=g) * (0.3 / p[0].numel() ** 0.5)


def lora_deltas(model):
    """{name of the base model's weight: what peft would add to it}, float32."""
    return {n.removeprefix("base_model.model.") + ".weight": m.get_delta_weight("default").detach().float()
            for n, m in model.named_modules() if hasattr(m, "lora_A")}


def adapter(model, folder, seed):
    """Writes a random adapter of a RandomPipeline in PEFT's or diffusers' layout; returns (layout, {tensor name: float32 delta at scale 1})."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    layout = r.choice(["peft", "peft", "diffusers", "plain"])
    pipeline, modules = type(model.pipe), model.modules
    model = type(model.pipe.transformer).from_config(model.pipe.transformer.config)
    present = {n for n, _ in model.named_modules()}
    targets = [t for t in r.sample(modules, r.randint(1, 6)) if any(n.endswith(t) for n in present)] or ["attn.to_q"]
    rank = r.randint(1, 9)
    alpha = rank if layout == "plain" else r.choice([rank, 2 * rank, 3])
    patterns = layout != "plain" and r.random() < .5
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0,
        rank_pattern={targets[0]: r.randint(1, 12)} if patterns else {},
        alpha_pattern={r".*\.0\." + targets[0].replace(".", r"\."): 7, targets[-1]: 5} if patterns else {})
    if layout == "peft":
        model = get_peft_model(model, config)
    else:
        inject_adapter_in_model(config, model)
    shake_lora(model, seed)
    deltas = lora_deltas(model)
    if layout == "peft":
        model.save_pretrained(folder)
        if r.random() < .3:  # target_modules as an expression: the keys decide
            file = Path(folder, "adapter_config.json")
            said = json.loads(file.read_text())
            said["target_modules"] = ".*(" + "|".join(targets) + ")"
            file.write_text(json.dumps(said))
    else:
        metadata = {"transformer_lora_adapter_metadata": model.peft_config["default"].to_dict()} if layout == "diffusers" else {}
        pipeline.save_lora_weights(folder, get_peft_model_state_dict(model), **metadata)
    return layout, deltas
