"""The captions of the emoji set, and what is asked for with them. As a program: captions.py FOLDER writes what the student and its report need
(Pillow alone): prompts.txt, two ways to ask for each caption that the teacher learned; real/, a data set of them with the pictures that it learned from;
train.txt and held.txt with the real pictures in train/ and held/, for the report."""
import csv, hashlib, io, os, random, re, sys, tarfile

TAR = os.environ.get("EMOJI_TAR", os.path.join(os.path.dirname(os.path.abspath(__file__)), "emoji128.tar"))

# What two CPU hours can learn: things, animals, food, faces; not people at work, clocks, arrows, signs.
SKIP = re.compile(r"\b(man|woman|men|women|person|people|boy|girl|family|couple|kiss:|clock|o’clock|thirty|button|arrow|symbol|sign|keycap|square|hand|hands|finger|fist|mage|elf|fairy|vampire|zombie|genie|merperson|mermaid|merman|superhero|supervillain|child|baby|adult|prince|princess|claus|guard|detective|worker|officer|teacher|student|singer|artist|pilot|astronaut|firefighter|judge|farmer|cook|mechanic|scientist|technologist|health|dancing|medium|japanese|ribbon|zodiac|hair|deaf|pregnant|ninja|bride|tuxedo|bed|bath|wrestl|polo|handball|juggl|lotus|golf|surf|rowing|swimming|lifting|biking|cartwheel|climbing|bouncing)\b", re.I)
def keep(row): return row["style"] == "3d emoji" and not SKIP.search(row["caption"])
def held_out(row): return int(hashlib.sha256(row["caption"].encode()).hexdigest(), 16) % 20 == 0

def variants(row, rng):
    """12 ways to ask for this emoji."""
    c, s, keys = row["caption"], row["style"], [k.strip() for k in row["keywords"].split(";") if k.strip()]
    art = "an" if c[0] in "aeiou" else "a"
    out = [f"{s} of {c}", f"{s} of {art} {c}", f"{c}, {s}", f"a {s} of {c}", c, f"{art} {c}", f"{c} as a {s}", f"{art} {c}, {s}"]
    for _ in range(4):
        k = rng.sample(keys, min(len(keys), rng.randint(1, 3))) if keys else [c]
        out.append(rng.choice([f"{s}, {', '.join(k)}, {c}", f"{c}, {', '.join(k)}, {s}", f"{s} of {c}, {k[0]}", f"{', '.join(k)}, {s}"]))
    return out

def read(tar=TAR):
    """Rows of captions.tsv, and the bytes of every picture by name."""
    rows, pictures = None, {}
    with tarfile.open(tar) as t:
        for m in t.getmembers():
            if not m.isfile(): continue
            b = t.extractfile(m).read()
            if m.name.endswith("captions.tsv"): rows = list(csv.DictReader(io.StringIO(b.decode()), delimiter="\t"))
            elif m.name.endswith(".webp"): pictures[os.path.basename(m.name)] = b
    return rows, pictures

def save(rows, pictures, folder):
    from PIL import Image
    os.makedirs(folder, exist_ok=True)
    for i, r in enumerate(rows): Image.open(io.BytesIO(pictures[os.path.basename(r["file"])])).convert("RGB").save(f"{folder}/{i:05d}.png")

def references(folder, name, rows, pictures):
    save(rows, pictures, f"{folder}/{name}")
    with open(f"{folder}/{name}.txt", "w") as f: f.writelines(f"{r['style']} of {r['caption']}\n" for r in rows)

def dataset(folder, rows, captions, pictures):
    save(rows, pictures, folder)
    with open(f"{folder}/metainfo.csv", "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["", "file_name", "caption"])
        out.writerows((i, f"{i % len(rows):05d}.png", c) for i, c in enumerate(captions))

def main(folder):
    rows, pictures = read()
    learned = [r for r in rows if keep(r) and not held_out(r)]
    rng, twice = random.Random(1), []
    for r in learned:
        v = variants(r, rng)
        twice.append((v[0], rng.choice(v[2:8])))
    prompts = [p[way] for way in range(2) for p in twice]
    dataset(f"{folder}/real", learned, prompts, pictures)
    random.Random(3).shuffle(learned)
    references(folder, "train", learned[:256], pictures)
    references(folder, "held", [r for r in rows if keep(r) and held_out(r)], pictures)
    with open(f"{folder}/prompts.part", "w") as f: f.writelines(f"{p}\n" for p in prompts)
    os.rename(f"{folder}/prompts.part", f"{folder}/prompts.txt")   # the last: `student` takes it for all of it

if __name__ == "__main__": main(sys.argv[1])
