"""halve.py FROM TO [NAME SCALES SIGMAS]: an adapter of swd train in float16, without the folder names of the machine it was trained on; with a second
schedule."""
import json, os, struct, sys

def main(source, target, second=None, scales="", sigmas=""):
    os.makedirs(target, exist_ok=True)
    b = open(source + "/adapter_model.safetensors", "rb").read()
    n = struct.unpack("<Q", b[:8])[0]
    head, data = json.loads(b[8:8 + n]), b[8 + n:]
    out, body = {"__metadata__": {"format": "pt"}}, b""
    for name, t in sorted((k, v) for k, v in head.items() if k != "__metadata__"):
        assert t["dtype"] == "F32", name
        begin, end = t["data_offsets"]
        values = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
        half = struct.pack(f"<{len(values)}e", *values)
        out[name] = {"dtype": "F16", "shape": t["shape"], "data_offsets": [len(body), len(body) + len(half)]}
        body += half
    text = json.dumps(out).encode()
    text += b" " * (-len(text) % 8)
    open(target + "/adapter_model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + body)
    config = json.load(open(source + "/adapter_config.json"))
    config["base_model_name_or_path"] = "weights/emoji"
    json.dump(config, open(target + "/adapter_config.json", "w"), indent=2)
    schedules = json.load(open(source + "/swd.json"))
    if second: schedules["presets"][second] = {"scales": [int(s) for s in scales.split(",")], "sigmas": [float(s) for s in sigmas.split(",")]}
    json.dump(schedules, open(target + "/swd.json", "w"), indent=2)

if __name__ == "__main__": main(*sys.argv[1:])
