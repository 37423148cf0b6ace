"""Goldens of src/host/eval: tests/goldens/eval/*.safetensors. usage: make_eval_goldens.py [spectrum] [metrics] [clip]   (numpy, scipy, scikit-image, torch, transformers)"""
import os, sys
import numpy as np
from safetensors.numpy import save_file

HERE = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "goldens", "eval")


def rings(plane):
    """Mean of |FFT2|^2 / (h w) over rings of integer radius, in units of the shorter side's frequency; without the mean."""
    h, w = plane.shape
    r = min(h, w)
    power = np.abs(np.fft.fft2(plane.astype(np.float64))) ** 2 / (h * w)
    radius = np.hypot(np.fft.fftfreq(h)[:, None] * r, np.fft.fftfreq(w)[None] * r)
    ring = np.floor(radius + 0.5).astype(int)
    return np.array([power[ring == k].mean() for k in range(1, r // 2 + 1)])


def spectrum():
    rng = np.random.default_rng(1)
    out = {}
    for name, shape in (("square", (2, 2, 32, 32)), ("odd", (1, 1, 15, 21)), ("tall", (1, 2, 24, 16))):
        z = rng.standard_normal(shape).astype(np.float32)
        z = (z + np.cumsum(z, -1) * 0.3).astype(np.float32)  # something that is not white
        out[f"{name}.latents"] = z
        out[f"{name}.power"] = np.mean([rings(p) for b in z for p in b], axis=0).astype(np.float32)
    save_file(out, os.path.join(HERE, "spectrum.safetensors"))


def mmd(x, y):
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    n, m = len(x), len(y)
    xx, yy = k(x, x), k(y, y)
    return (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1)) - 2 * k(x, y).mean()


def frechet(x, y):
    import scipy.linalg
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(a @ b)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root.real)


def metrics():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity
    rng = np.random.default_rng(2)
    out = {}
    mix = rng.standard_normal((12, 12)) / 3
    x = (rng.standard_normal((60, 12)) @ mix + 0.2).astype(np.float32)
    y = (rng.standard_normal((47, 12)) @ (mix + 0.1) - 0.1).astype(np.float32)
    few = x[:7]  # fewer than dimensions: a singular covariance
    for name, a, b in (("sets", x, y), ("few", few, y)):
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        unit = a64 / np.linalg.norm(a64, axis=1, keepdims=True)
        cos = unit @ unit.T
        n = len(a)
        values = [frechet(a64, b64), mmd(a64, b64), 1 - (cos.sum() - np.trace(cos)) / (n * (n - 1))]
        out.update({f"{name}.x": a, f"{name}.y": b, f"{name}.values": np.array(values, np.float32)})
    smooth = np.cumsum(np.cumsum(rng.standard_normal((29, 37, 3)), 0), 1)
    first = np.clip(127 + smooth * 4, 0, 255).astype(np.uint8)
    second = np.clip(first * 0.9 + rng.standard_normal(first.shape) * 12, 0, 255).astype(np.uint8)
    values = [peak_signal_noise_ratio(first, second, data_range=255),
              structural_similarity(first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1)]
    out.update(first=first, second=second, pair=np.array(values, np.float32))
    save_file(out, os.path.join(HERE, "metrics.safetensors"))


def clip():
    """NAME/: tiny random CLIP folders with the bundled tokenizer; io.safetensors: pictures, what the processor makes of them, embeddings of both towers."""
    import json, shutil
    import torch
    from PIL import Image
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModelWithProjection
    bundle = os.path.join(HERE, "..", "..", "..", "weights", "emoji", "tokenizer")
    rng = np.random.default_rng(3)
    prompts = ["a red apple", "", "3d emoji of a very long prompt that does not fit into the window of this model at all"]
    shapes = [(40, 40), (61, 37), (24, 90), (16, 13)]
    pictures = [np.clip(127 + np.cumsum(np.cumsum(rng.standard_normal((h, w, 3)), 0), 1) * 6, 0, 255).astype(np.uint8) for h, w in shapes]
    for name, act, dtype, eos in (("clip", "quick_gelu", torch.float32, 2047), ("vision", "gelu", torch.float16, None)):
        torch.manual_seed(4)
        vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=24, patch_size=6, hidden_act=act, layer_norm_eps=1e-5)
        if eos:
            text = dict(vocab_size=2048, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=16, hidden_act=act,
                        bos_token_id=2046, eos_token_id=eos, pad_token_id=eos)
            model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20))
        else:
            model = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=12, **vision))
        for key, p in (kp for kp in model.named_parameters() if kp[1].ndim):
            noise = torch.randn(p.shape)
            p.data = (1 + 0.3 * noise if "norm" in key and key.endswith("weight") else 0.3 * noise) if p.ndim == 1 else noise * (0.7 if "embedding.weight" in key and p.ndim == 2 else p[0].numel() ** -0.5)
        model = model.to(dtype).float().eval()
        out = os.path.join(HERE, name)
        model.to(dtype).save_pretrained(out)
        model.float()
        processor = CLIPImageProcessor(size={"shortest_edge": 27 if eos else 24}, crop_size={"height": 24, "width": 24}, **({} if eos else dict(image_mean=[.5, .4, .3], image_std=[.5, .6, .7])))
        processor.save_pretrained(out)
        io = {f"picture{i}": p for i, p in enumerate(pictures)}
        io["0/pixels"] = pixels = processor([Image.fromarray(p) for p in pictures], return_tensors="np")["pixel_values"].astype(np.float32)
        with torch.no_grad():
            if eos:
                for f in ("vocab.json", "merges.txt", "tokenizer_config.json"):
                    shutil.copy(os.path.join(bundle, f), out)
                tokens = CLIPTokenizer.from_pretrained(bundle)(prompts, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
                io["text"] = model.get_text_features(**tokens).numpy()
                io["0/image"] = model.get_image_features(pixel_values=torch.from_numpy(pixels)).numpy()
            else:
                io["0/image"] = model(pixel_values=torch.from_numpy(pixels)).image_embeds.numpy()
        save_file({k: np.ascontiguousarray(v) for k, v in io.items()}, os.path.join(out, "io.safetensors"))


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    for part in sys.argv[1:] or ["spectrum", "metrics", "clip"]:
        globals()[part]()
