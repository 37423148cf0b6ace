# SPDX-License-Identifier: MIT
"""Random tiny FLUX pipelines for compare.py."""
import random

from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextModel

from random_models import DTYPES, RandomPipeline, shaken


class RandomFlux(RandomPipeline):
    """One drawn pipeline; dev's scheduler, schnell's or a static shift."""

    clip_class = CLIPTextModel
    modules = ["attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_mlp", "proj_out", "add_q_proj",
               "add_k_proj", "add_v_proj", "to_add_out", "ff_context.net.0.proj", "ff_context.net.2", "norm1.linear",
               "norm1_context.linear", "norm.linear", "norm_out.linear", "x_embedder", "context_embedder",
               "time_text_embed.timestep_embedder.linear_1"]

    def __init__(self, seed, tokenizers):
        self.rng = r = random.Random(seed)
        self.seed = seed
        self.dtypes = {k: r.choice(DTYPES) for k in ("transformer", "vae", "text_encoder", "text_encoder_2")}
        self.dtypes["text_encoder_3"] = self.dtypes["text_encoder_2"]  # what t5() looks for
        self.shards = r.random() < .3
        channels, joint = r.choice([1, 4, 8, 16]), 8 * r.randint(1, 6) + r.choice([0, 0, 5])
        tokenizer, clip = self.clip(tokenizers / "tokenizer", 0)
        vae = self.vae(channels)
        t5_tokenizer, t5 = self.t5(tokenizers / "tokenizer_3", joint)
        transformer = self.transformer(channels, joint, clip.config.hidden_size)
        del self.dtypes["text_encoder_3"]
        self.pipe = FluxPipeline(scheduler=self.scheduler(), vae=vae, text_encoder=clip, tokenizer=tokenizer, text_encoder_2=t5,
                                 tokenizer_2=t5_tokenizer, transformer=transformer)
        self.pipe.set_progress_bar_config(disable=True)

    def scheduler(self):
        r = self.rng
        dynamic = dict(use_dynamic_shifting=True, shift=3.0, base_shift=r.choice([.5, .25]), max_shift=r.choice([1.15, 2.0]),
                       base_image_seq_len=r.choice([256, 16]), max_image_seq_len=r.choice([4096, 100]),
                       time_shift_type=r.choice(["exponential", "exponential", "linear"]))
        return FlowMatchEulerDiscreteScheduler(**r.choice([dynamic, dynamic, dict(shift=1.0), dict(shift=2.5)]))

    def transformer(self, channels, joint, pooled):
        r = self.rng
        heads, axes = r.choice([(1, (2, 2, 4)), (2, (4, 6, 6)), (3, (0, 4, 4)), (2, (16, 8, 16)), (1, (8, 24, 40)), (2, (2, 14, 0))])
        doubles = r.randint(0, 3)
        model = FluxTransformer2DModel(
            in_channels=4 * channels, num_layers=doubles, num_single_layers=r.randint(0 if doubles else 1, 4), attention_head_dim=sum(axes),
            num_attention_heads=heads, joint_attention_dim=joint, pooled_projection_dim=pooled, guidance_embeds=r.random() < .6,
            axes_dims_rope=axes)
        return shaken(model, self.dtypes["transformer"], self.seed * 10 + 4)

    def text_layers(self):
        return max(self.pipe.text_encoder.config.num_hidden_layers, self.pipe.text_encoder_2.config.num_layers)

    def layers(self):
        c = self.pipe.transformer.config
        return c.num_layers + c.num_single_layers
