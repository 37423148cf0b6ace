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


class Inception:
    """The FID variant in plain torch functions on a state dict of torchvision's names. make=True draws the weights on the way."""

    def __init__(self, divide, make_seed):
        import torch
        self.divide, self.state, self.rng = divide, {}, torch.Generator().manual_seed(make_seed)

    def conv(self, x, name, out, kernel, stride=1, padding=0):
        import torch
        import torch.nn.functional as F
        s, out = self.state, out // self.divide
        if f"{name}.conv.weight" not in s:
            draw = lambda *shape: torch.randn(shape, generator=self.rng)
            w = draw(out, x.shape[1], *kernel)
            s[f"{name}.conv.weight"] = w * (2 / w[0].numel()) ** 0.5
            s[f"{name}.bn.weight"], s[f"{name}.bn.bias"] = 1 + 0.2 * draw(out), 0.1 * draw(out)
            s[f"{name}.bn.running_mean"], s[f"{name}.bn.running_var"] = 0.1 * draw(out), (1 + 0.2 * draw(out)).abs() + 0.1
        y = F.conv2d(x, s[f"{name}.conv.weight"], stride=stride, padding=padding)
        y = F.batch_norm(y, s[f"{name}.bn.running_mean"], s[f"{name}.bn.running_var"], s[f"{name}.bn.weight"], s[f"{name}.bn.bias"], eps=0.001)
        return F.relu(y)

    def branch(self, x, block, *links):
        for name, out, kernel, stride, padding in links:
            x = self.conv(x, f"{block}.{name}", out, kernel, stride, padding)
        return x

    def __call__(self, x):
        import torch
        import torch.nn.functional as F
        p1, p3, p5, row, column = ((1, 1), 1, 0), ((3, 3), 1, 1), ((5, 5), 1, 2), ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        half, mean = ((3, 3), 2, 0), lambda t: F.avg_pool2d(t, 3, 1, 1, count_include_pad=False)
        x = self.conv(x, "Conv2d_1a_3x3", 32, (3, 3), 2)
        x = self.conv(x, "Conv2d_2a_3x3", 32, (3, 3))
        x = self.conv(x, "Conv2d_2b_3x3", 64, (3, 3), 1, 1)
        x = F.max_pool2d(x, 3, 2)
        x = self.conv(x, "Conv2d_3b_1x1", 80, (1, 1))
        x = self.conv(x, "Conv2d_4a_3x3", 192, (3, 3))
        x = F.max_pool2d(x, 3, 2)
        for n, pool in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = torch.cat([self.branch(x, n, ("branch1x1", 64, *p1)), self.branch(x, n, ("branch5x5_1", 48, *p1), ("branch5x5_2", 64, *p5)),
                           self.branch(x, n, ("branch3x3dbl_1", 64, *p1), ("branch3x3dbl_2", 96, *p3), ("branch3x3dbl_3", 96, *p3)),
                           self.branch(mean(x), n, ("branch_pool", pool, *p1))], 1)
        n = "Mixed_6a"
        x = torch.cat([self.branch(x, n, ("branch3x3", 384, *half)), self.branch(x, n, ("branch3x3dbl_1", 64, *p1), ("branch3x3dbl_2", 96, *p3), ("branch3x3dbl_3", 96, *half)),
                       F.max_pool2d(x, 3, 2)], 1)
        for n, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = torch.cat([self.branch(x, n, ("branch1x1", 192, *p1)),
                           self.branch(x, n, ("branch7x7_1", c, *p1), ("branch7x7_2", c, *row), ("branch7x7_3", 192, *column)),
                           self.branch(x, n, ("branch7x7dbl_1", c, *p1), ("branch7x7dbl_2", c, *column), ("branch7x7dbl_3", c, *row), ("branch7x7dbl_4", c, *column), ("branch7x7dbl_5", 192, *row)),
                           self.branch(mean(x), n, ("branch_pool", 192, *p1))], 1)
        n = "Mixed_7a"
        x = torch.cat([self.branch(x, n, ("branch3x3_1", 192, *p1), ("branch3x3_2", 320, *half)),
                       self.branch(x, n, ("branch7x7x3_1", 192, *p1), ("branch7x7x3_2", 192, *row), ("branch7x7x3_3", 192, *column), ("branch7x7x3_4", 192, *half)), F.max_pool2d(x, 3, 2)], 1)
        for n in ("Mixed_7b", "Mixed_7c"):
            a, b = self.branch(x, n, ("branch3x3_1", 384, *p1)), self.branch(x, n, ("branch3x3dbl_1", 448, *p1), ("branch3x3dbl_2", 384, *p3))
            fork = lambda t, k: [self.branch(t, n, (f"{k}a", 384, (1, 3), 1, (0, 1))), self.branch(t, n, (f"{k}b", 384, (3, 1), 1, (1, 0)))]
            pooled = mean(x) if n == "Mixed_7b" else F.max_pool2d(x, 3, 1, 1)
            x = torch.cat([self.branch(x, n, ("branch1x1", 320, *p1)), *fork(a, "branch3x3_2"), *fork(b, "branch3x3dbl_3"), self.branch(pooled, n, ("branch_pool", 192, *p1))], 1)
        return x.mean((2, 3))


def inception():
    """inception/: the network at a sixteenth of its width; io.safetensors: a picture, its pixels, features. The full width must have torchvision's number of parameters."""
    import torch
    import torch.nn.functional as F
    import convert_inception
    full = Inception(1, 1)
    with torch.no_grad():
        assert full(torch.zeros(1, 3, 299, 299)).shape == (1, 2048)
    learned = sum(v.numel() for k, v in full.state.items() if "running" not in k)
    assert learned == 23834568 - 1000 * 2049, learned  # Inception3 without its head of 1,000 classes and without the auxiliary one
    model, side, rng = Inception(16, 5), 75, np.random.default_rng(6)
    out = os.path.join(HERE, "inception")
    pictures = [np.clip(127 + np.cumsum(np.cumsum(rng.standard_normal((h, w, 3)), 0), 1) * 4, 0, 255).astype(np.uint8) for h, w in ((40, 61), (90, 80))]
    with torch.no_grad():
        x = torch.cat([F.interpolate(torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255, size=(side, side), mode="bilinear", align_corners=False) for p in pictures]) * 2 - 1
        y = model(x)
        # the same network with nothing left to fold: as it is, and in numbers that float16 holds
        folded, model.state = convert_inception.fold(model.state), {}
        for dtype in (torch.float32, torch.float16):
            for key, v in folded.items():
                name, part = key.rsplit(".", 1)
                v = v.to(dtype).float()
                one = torch.ones(v.shape[0])
                model.state.update({f"{name}.conv.weight": v, f"{name}.bn.weight": one, f"{name}.bn.running_mean": 0 * one, f"{name}.bn.running_var": one - convert_inception.EPSILON}
                                   if part == "weight" else {f"{name}.bn.bias": v})
            again = model(x)
            assert dtype != torch.float32 or torch.allclose(again, y, rtol=1e-4, atol=1e-5)
        convert_inception.write(model.state, out, side, 16, torch.float16)
    save_file({**{f"picture{i}": p for i, p in enumerate(pictures)}, "0/pixels": np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()), "0/features": again.numpy()}, os.path.join(out, "io.safetensors"))


if __name__ == "__main__":
    os.makedirs(HERE, exist_ok=True)
    for part in sys.argv[1:] or ["spectrum", "metrics", "clip", "inception"]:
        globals()[part]()
