"""The Inception-v3 of FID as a folder that `swd eval --features` reads: convolutions with their batch norms folded in, float32.
usage: convert_inception.py CHECKPOINT.pth FOLDER     (torch, safetensors)

CHECKPOINT: a state dict of torchvision's layout (Mixed_5b.branch1x1.conv.weight, .bn.running_mean, ...), as that of the TensorFlow weights of 2015 that
FID is defined with (published as pt_inception-2015-12-05-6726825d.pth). Classifier and auxiliary head are left out."""
import json, os, sys

EPSILON = 0.001  # of every batch norm


def fold(state):
    import torch
    out = {}
    for key, weight in state.items():
        if not key.endswith(".conv.weight") or key.startswith("AuxLogits"):
            continue
        name = key[: -len(".conv.weight")]
        norm = {part: state[f"{name}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")}
        scale = norm["weight"] / torch.sqrt(norm["running_var"] + EPSILON)
        out[f"{name}.weight"] = (weight.double() * scale[:, None, None, None]).float().contiguous()
        out[f"{name}.bias"] = (norm["bias"] - norm["running_mean"] * scale).float().contiguous()
    if len(out) != 2 * 94:
        raise SystemExit(f"{len(out) // 2} convolutions; Inception-v3 has 94 before its classifier")
    return out


def write(state, folder, image_size=299, width_divisor=1, dtype=None):
    from safetensors.torch import save_file
    os.makedirs(folder, exist_ok=True)
    tensors = fold(state)
    save_file({k: v.to(dtype) if dtype else v for k, v in tensors.items()}, os.path.join(folder, "model.safetensors"))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"model_type": "inception_v3_fid", "image_size": image_size, "width_divisor": width_divisor}, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    import torch
    write(torch.load(sys.argv[1], map_location="cpu", weights_only=True), sys.argv[2])
