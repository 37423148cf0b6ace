"""docs/report.md: the bundled student beside its teacher, by `swd eval`, with sheets. usage: report.py FOLDER [SWD] (after `student`, in its folder; Pillow; what
sharp.py names, or one table is left out). Every arm is made once and kept in FOLDER/report: remove it to make it again."""
import json, os, subprocess, sys
from PIL import Image
import sharp

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROMPTS = ["a red apple", "3d emoji of a cat face", "a dog, 3d emoji", "3d emoji of a rocket", "birthday cake", "a rainbow, 3d emoji", "a 3d emoji of a house with garden", "soccer ball",
    "grinning face, 3d emoji", "crying face", "3d emoji of a blue heart", "green book", "3d emoji of a tropical fish", "sunflower", "3d emoji of a guitar", "fire engine"]
PAIRS = [("student", "before"), ("student", "teacher-2"), ("student", "teacher-3"), ("student-4", "teacher-2"), ("student-late", "teacher-3"), ("student-late", "teacher-6g")]
SIX, FOUR = ROOT + "/weights/emoji-student", ROOT + "/weights/emoji-student-4"

def schedule(adapter, name=None):
    p = json.load(open(adapter + "/swd.json"))
    p = p["presets"][name or p["default"]]
    return p["scales"], [str(round(s, 4)) for s in p["sigmas"] if s > 0]

def of(schedule): return ["--scales", ",".join(map(str, schedule[0])), "--sigmas", ",".join(schedule[1])]

def arms():
    """name, what it is, options, evaluations in full-resolution steps"""
    six, late = schedule(SIX), schedule(SIX, "student-6-late")
    sides, wave, flat = six[0], of(six), of(([six[0][-1] for _ in six[0]], six[1]))
    cost = lambda s: sum(x * x for x in s) / s[-1] ** 2
    euler = lambda n, g: ["--sampler", "euler", "--steps", str(n), "--guidance", str(g)]
    out = [("teacher-28", "teacher, 28 steps, guidance 4", euler(28, 4), 56), ("teacher-6g", "teacher, 6 steps, guidance 4", euler(6, 4), 12),
        ("teacher-6", "teacher, 6 steps", euler(6, 1), 6), ("teacher-4", "teacher, 4 steps", euler(4, 1), 4), ("teacher-3", "teacher, 3 steps", euler(3, 1), 3), ("teacher-2", "teacher, 2 steps", euler(2, 1), 2),
        ("before", "teacher, scale-wise 6, not distilled", wave, cost(sides)), ("student", "**student, scale-wise 6**", wave + ["--lora", SIX], cost(sides)),
        ("student-late", "**student, scale-wise 6, the last two at full size**", of(late) + ["--lora", SIX], cost(late[0])),
        ("student-flat", "student, 6 steps at full resolution", flat + ["--lora", SIX], 6)]
    if os.path.exists(FOUR):
        four = schedule(FOUR)
        out.append(("student-4", "**student, scale-wise 4**", of(four) + ["--lora", FOUR], cost(four[0])))
    return out

def run(swd, args): return json.loads(subprocess.run([swd] + args + ["--json"], check=True, capture_output=True, text=True).stdout)

def kept(path, make):
    if not os.path.exists(path): json.dump(make(), open(path, "w"))
    return json.load(open(path))

def measure(folder, swd, name, options):
    here = f"{folder}/report/{name}"
    os.makedirs(here, exist_ok=True)
    got = {}
    for which in ("train", "held"):
        got[which] = kept(f"{here}/{which}.json", lambda: run(swd, ["eval", "-m", ROOT + "/weights/emoji", "--prompts", f"{folder}/{which}.txt", "--reference", f"{folder}/{which}",
            "--seed", "7", "--max-tokens", "16", "-o", f"{here}/{which}"] + options))["metrics"]
    made = kept(f"{here}/time.json", lambda: run(swd, ["generate", "-m", ROOT + "/weights/emoji", "--seed", "11", "--max-tokens", "16", "--batch", "1", "-o", f"{here}/sheet-%02d.png"] + PROMPTS + options))
    got["ms"], got["device"] = made["latency_ms"]["p50"], made["device"]
    return got

def sharper(folder, swd, rows):
    """The table of the sharper eye; the teacher once more, with other seeds, says what chance alone does."""
    if not sharp.there(): return ["(Left out: the packages that tools/demo/sharp.py names are not installed.)"]
    model, at, again = ROOT + "/weights/emoji", folder + "/report", folder + "/report/teacher-again"
    if not os.path.exists(again):
        os.makedirs(again + ".part", exist_ok=True)
        run(swd, ["generate", "-m", model, "--prompts", folder + "/train.txt", "--seed", "8", "--max-tokens", "16", "-o", again + ".part/%04d.png"] + rows[0][2])
        os.rename(again + ".part", again)
    real, other = sharp.features(folder + "/train", at + "/real.npy"), sharp.features(again, at + "/teacher-again.npy")
    of = {r[0]: (sharp.features(f"{at}/{r[0]}/train", f"{at}/{r[0]}/features.npy"), sharp.power(swd, model, f"{at}/{r[0]}/train", f"{at}/{r[0]}/spectrum.json")) for r in rows}
    of["again"] = other, sharp.power(swd, model, again, at + "/teacher-again.json")
    teacher, order = of[rows[0][0]], [r[:2] + (r[3],) for r in rows]
    order.insert(1, ("again", "the same, other seeds", rows[0][3]))
    out = ["| arm | cost | KID x 1000 | more than the teacher's | own picture first | more than the teacher's | among five | KID to the teacher | power by octave, dB |", "|---|---:|---|---|---|---|---|---:|---:|"]
    for name, what, cost in order:
        x, p = of[name]
        m = sharp.compare(x, real, teacher[0], teacher[0] if name == "again" else other)
        more = ("", "") if name == rows[0][0] else (cell(m["kid_more"], 0), cell(m["own_more"], 2))
        decibels = " ".join(f"{d:+.1f}" for d in sharp.decibels(p, teacher[1]))
        out.append(f"| {what} | {cost:.1f} | {cell(m['kid'], 0)} | {more[0]} | {cell(m['own@1'], 2)} | {more[1]} | {m['own@5']['value']:.2f} | {m['kid_teacher']:.0f} | {decibels} |")
    out += ["", "| one arm | less another | KID x 1000 | own picture first |", "|---|---|---|---|"]
    what = {r[0]: r[1].strip("*") for r in rows}
    for a, b in PAIRS:
        m = sharp.compare(of[a][0], real, of[b][0], other)
        out.append(f"| {what[a]} | {what[b]} | {cell(m['kid_more'], 0)} | {cell(m['own_more'], 2)} |")
    return out

def sheet(folder, name):
    w = Image.new("RGB", (8 * 96, 2 * 96), "white")
    for i in range(16): w.paste(Image.open(f"{folder}/report/{name}/sheet-{i:02d}.png").convert("RGB").resize((96, 96), Image.LANCZOS), (i % 8 * 96, i // 8 * 96))
    w.save(f"{ROOT}/docs/images/report-{name}.jpg", quality=88)

def cell(m, digits):
    lo, hi = m["interval"]
    return f"{m['value']:.{digits}f} ({lo:.{digits}f} to {hi:.{digits}f})"

def table(rows, which):
    out = ["| arm | cost | ms | Frechet | MMD x 1000 | CLIP score | own prompt first | diversity |", "|---|---:|---:|---|---|---|---|---|"]
    for name, what, options, cost, got in rows:
        m = got[which]
        thousand = {"value": m["mmd"]["value"] * 1000, "interval": [x * 1000 for x in m["mmd"]["interval"]]}
        out.append(f"| {what} | {cost:.1f} | {'' if got['ms'] is None else round(got['ms'])} | {cell(m['frechet'], 2)} | {cell(thousand, 0)} | {cell(m['clip_score'], 3)} | {cell(m['retrieval@1'], 2)} | {m['diversity']['value']:.3f} |")
    return out

def main(folder, swd):
    rows = []
    for name, what, options, cost in arms():
        rows.append((name, what, options, cost, measure(folder, swd, name, options)))
        sheet(folder, name)
    text = open(ROOT + "/tools/demo/report.in.md").read()
    sheets = "\n\n".join(f"{r[1].strip('*')}:\n\n![{r[1].strip('*')}](images/report-{r[0]}.jpg)" for r in rows)
    for key, value in {"train": "\n".join(table(rows, "train")), "held": "\n".join(table(rows, "held")), "sharp": "\n".join(sharper(folder, swd, rows)), "sheets": sheets, "device": rows[0][4]["device"]}.items():
        text = text.replace("{%s}" % key, value)
    open(ROOT + "/docs/report.md", "w").write(text)

if __name__ == "__main__": main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ROOT + "/build/tools/swd/swd")
