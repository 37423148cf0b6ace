"""A small CLIP of pictures and captions for `swd eval`: transformers' CLIPModel, 64x64 pixels, trained from scratch by the symmetric contrastive loss.
usage: clip.py MINUTES TOTAL_MINUTES (resumes from clip.ck; TOTAL_MINUTES sets the learning-rate schedule), then clip.py --export FOLDER"""
import math, os, random, shutil, sys, time, torch, torch.nn.functional as F
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer
import data
from captions import variants

BATCH, LR, SIDE, N_TOKENS = 256, 1.5e-3, 64, 16
tokenizer = CLIPTokenizer.from_pretrained("bundle/tokenizer")

def make():
    torch.manual_seed(1)
    text = dict(vocab_size=2048, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=N_TOKENS,
        bos_token_id=2046, eos_token_id=2047, pad_token_id=2047, hidden_act="quick_gelu", projection_dim=128)
    vision = dict(hidden_size=192, intermediate_size=576, num_hidden_layers=4, num_attention_heads=3, image_size=SIDE, patch_size=16, hidden_act="quick_gelu", projection_dim=128)
    m = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))
    m.text_model.eos_token_id = 2047
    return m

def resized(x, side):
    return torch.cat([F.interpolate(part.float(), size=(side, side), mode="bicubic", antialias=True).round().clamp(0, 255).to(torch.uint8) for part in x.split(64)])

def sheets(x):
    """The pictures at three sizes, with white around where a crop of 64 may reach beyond them."""
    return [F.pad(resized(x, side), ((SIDE + 8 - side + 1) // 2,) * 4 if side < SIDE + 8 else (0,) * 4, value=255) for side in (58, 64, 74)]

def crops(sheets, rows):
    """One of the sizes and one place for each four pictures, contrast and tint of each: float in about [-1, 1]."""
    out = []
    for i in range(0, len(rows), 4):
        x = random.choice(sheets); a, b = random.randint(0, x.shape[2] - SIDE), random.randint(0, x.shape[3] - SIDE)
        out.append(x[rows[i:i + 4], :, a:a + SIDE, b:b + SIDE])
    return 1 + (torch.cat(out).float() / 127.5 - 2) * (1 + .12 * torch.randn(len(rows), 3, 1, 1))

def ids(prompts): return tokenizer(prompts, padding="max_length", max_length=N_TOKENS, truncation=True, return_tensors="pt").input_ids

def features(m, x, prompts):
    v, t = m.visual_projection(m.vision_model(x).pooler_output), m.text_projection(m.text_model(ids(prompts)).pooler_output)
    return F.normalize(v, dim=-1), F.normalize(t, dim=-1)

def held_out(m, d):
    """Each held-out picture against the captions of all of them: "CAPTION, STYLE". -> text of picture, picture of text, at 1 and at 5."""
    at = d["held"].nonzero().flatten(); rows = [d["rows"][i] for i in at.tolist()]
    m.eval()
    with torch.no_grad():
        v, t = zip(*[features(m, resized(d["x"][at[i:i + 64]], SIDE) / 127.5 - 1, [f"{r['caption']}, {r['style']}" for r in rows[i:i + 64]]) for i in range(0, len(rows), 64)])
    m.train()
    s = torch.cat(v) @ torch.cat(t).T; own = s.diag()
    rank = lambda dim: (s > (own[:, None] if dim else own[None])).sum(dim)
    return len(rows), {f"{name}@{k}": round((rank(dim) < k).float().mean().item(), 3) for name, dim in (("text", 1), ("picture", 0)) for k in (1, 5)}

def train(minutes, total):
    torch.set_num_threads(2); torch.manual_seed(int(time.time())); random.seed(time.time())
    d = data.load(); m = make(); white = sheets(d["x"]); train_on = (~d["held"]).nonzero().flatten().tolist()
    matrices = [p for p in m.parameters() if p.ndim > 1]
    adam = torch.optim.AdamW([dict(params=matrices, weight_decay=.1), dict(params=[p for p in m.parameters() if p.ndim < 2], weight_decay=0)], lr=LR, betas=(.9, .98))
    done, step = 0., 0
    if os.path.exists("clip.ck"):
        c = torch.load("clip.ck"); m.load_state_dict(c["model"]); adam.load_state_dict(c["adam"]); done, step = c["minutes"], c["step"]
    start, pool, sums = time.time(), [], []
    while (used := (time.time() - start) / 60) < minutes:
        if len(pool) < BATCH: pool = random.sample(train_on, len(train_on))
        batch, pool = pool[:BATCH], pool[BATCH:]
        scale = min(1, (step + 1) / 50) * .5 * (1 + math.cos(math.pi * min(1, (done + used) / total)))
        prompts = [random.choice(variants(d["rows"][i], random)) for i in batch]
        v, t = features(m, crops(white, batch), prompts)
        logits = m.logit_scale.exp().clamp(max=60) * v @ t.T
        same = torch.tensor([[float(a == b) for b in prompts] for a in prompts])   # two styles may share a caption
        loss = (F.cross_entropy(logits, same / same.sum(1, keepdim=True)) + F.cross_entropy(logits.T, same / same.sum(1, keepdim=True))) / 2
        m.zero_grad(); loss.backward()
        for g in adam.param_groups: g["lr"] = LR * scale
        adam.step(); step += 1; sums.append(loss.item())
        if step % 50 == 0: print(f"step {step} minute {done + used:.1f} loss {sum(sums[-50:]) / 50:.3f}", flush=True)
    torch.save(dict(model=m.state_dict(), adam=adam.state_dict(), minutes=done + minutes, step=step), "clip.ck")
    print(step, "steps;", *held_out(m, d))

def export(out):
    m = make(); m.load_state_dict(torch.load("clip.ck")["model"]); m.to(torch.float16).save_pretrained(out)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=[.5] * 3, image_std=[.5] * 3).save_pretrained(out)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"): shutil.copy(f"bundle/tokenizer/{name}", f"{out}/{name}")
    print(held_out(m.float(), data.load()))

if __name__ == "__main__": export(sys.argv[2]) if sys.argv[1] == "--export" else train(float(sys.argv[1]), float(sys.argv[2]))
