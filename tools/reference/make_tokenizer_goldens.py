# SPDX-License-Identifier: MIT
"""Token ids of transformers' fast tokenizers (4.57.6, tokenizers 0.22.2) for a corpus of odd strings.

    python tools/reference/make_tokenizer_goldens.py tests/data/vocab weights/emoji tests/goldens/tokenizer

corpus.bin    each string: uint16 bytes, then UTF-8
NAME.bin      NAME in {clip, clip_2, t5: the published vocabularies; small, small_2, small_3: the bundled model's}; each
              string of the corpus: uint8 count (without padding), then uint16 ids; at most 77 with start and end
All numbers are little-endian.
configs.json  {"strings", "cases": [{"kind", "config", "ids"}]}: the bundled vocabularies under other tokenizer_config.json files
"""
import json
import random
import shutil
import struct
import sys
import tempfile
from pathlib import Path

from transformers import CLIPTokenizerFast, T5TokenizerFast

LENGTH = 77
WORDS = ("a photo of an astronaut riding horse! don't we'll ' 'S I'M 12 3.5 ½ <|endoftext|> <|startoftext|> <|EndOfText|> </s> <pad> "
         "<unk> <extra_id_0> <extra_id_5>x <extra_id_99> ＜extra_id_0＞ emoji 3d flat of,the İstanbul ΣΑΣ ﬁ ﬁ́ é 가각 힣 日本語 العربية "
         "हिन्दी ไทย 👩‍👩‍👧 👍🏽 🇩🇪🇫🇷 ❤️ ▁ ▁▁ ! !! ① Ⅷ Ελληνικά русский עברית தமிழ் ქართული ខ្មែរ").split(" ")
WORDS += ["\u3000", "\u200b", "\ufeff", "\0", "\u00ad", "\r\n", "\t", "e\u0301\u0323", "\u1100\u1161\u11a8"]
POOLS = [(32, 126)] * 4 + [(0, 32), (160, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x1100, 0x11FF),
                           (0x1E00, 0x20FF), (0x2000, 0x2BFF), (0x3000, 0x33FF), (0x4E00, 0x5000), (0xAC00, 0xD7A3),
                           (0xF900, 0xFFFF), (0x1F1E0, 0x1F6FF), (0x10000, 0x1FFFF), (0, 0x10FFFF)]
ENGLISH = ("a photo of an astronaut riding horse on the moon at night with soft light, oil painting by an unknown master in "
           "style flat emoji smiling cat green apple red heart very detailed city street snow mountains beautiful").split()
PLAIN = ["", " ", "   ", "\n", "\t \n", "\0", "!", "!!!", "! !", "a!b", "</s>", "a</s>b", " </s> ", "<extra_id_0>", "<extra_id_0> a",
         "<|endoftext|>", "a <|endoftext|> b", "<|startoftext|><|endoftext|>", "<|STARTOFTEXT|>", "<unk><pad>", "don't", "DON'T 'S",
         "it's 3's '5 'll", "a" + " " * 5000 + "b", " " * 3000, "word " * 200, "a" * 700, "🙂" * 150, "e" + "\u0301" * 300, "1" * 100,
         "the " * 74, "the " * 75, "the " * 76, "the " * 77, "\ufffd", "\U0010ffff", "\ue000", "\ufeffbom", "a\u200db", "\u0344", "\u0345",
         "\u212b", "\u1e9b\u0323", "\ud55c\uae00", "\u1112\u1161\u11ab", "İ", "I\u0307", "ß", "ẞ", "Σ", "ΑΣ", "ǅ", "\u2028x\u2029",
         "½\u0897 ½\u0300 ½\u05c8 ¨\u1acf"]


def char(rng):
    while True:
        c = rng.randint(*rng.choice(POOLS))
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def mixture(rng):
    out = []
    for _ in range(rng.randint(1, 6)):
        out.append(rng.choice(WORDS) if rng.random() < .5 else "".join(char(rng) for _ in range(rng.randint(1, 4))))
        out.append(rng.choice(["", "", " ", " ", "  ", "\n"]))
    return "".join(out)


def changed_by_version():
    """The characters about which versions of Unicode differ, with neighbours that show class, order and composition."""
    for c in [0x558, 0x88F, 0x897, 0x8CA, 0xC3C, 0x1715, 0x1ABF, 0x1ACF, 0x1C89, 0xA7CB, 0xA7CC, 0xA7CE, 0xA7DA, 0xA7DC, 0xA7F1, 0x105C9,
              0x10D40, 0x10D50, 0x10D69, 0x10EC2, 0x10F46, 0x11383, 0x113C5, 0x11938, 0x116D0, 0x16121, 0x16128, 0x16D6A, 0x16EA0,
              0x1CCF0, 0x1E08F, 0x1E5D0, 0x1E5EE, 0x2EBF0, 0x323B0]:
        yield f"a{chr(c)}b1"
        yield f"q\u0301{chr(c)}\u0323\u0301"
    yield "\U000105d2\u0307 \U00011935\U00011930 \U0001611e\U0001611e\U0001611f \U000113c2\U000113c9"


def corpus():
    rng = random.Random(20)
    out = PLAIN + list(changed_by_version()) + [chr(c) for c in range(0x180)]
    out += ["a" + chr(rng.randrange(0x180, 0xD800)) + "b" for _ in range(300)]
    out += [" ".join(rng.choice(ENGLISH) for _ in range(rng.randint(2, 20))) for _ in range(800)]
    return out + [mixture(rng) for _ in range(1900)]


B, E, T5E = "<|startoftext|>", "<|endoftext|>", "</s>"
SHORT = ["", " ", "a", " a", "cat", "CAT</w> cat</w>", "a</s>b", "</s> a", "x </s>y", "<extra_id_0> a", "b<extra_id_4>a", "<unk><pad>",
         "<pad> a", "<|StartOfText|>a", "a<|EndOfText|>b", "a<|endoftext|> b", "! cat !!", "a<own>b", "<OWN> <own>", "a  yy zz",
         "word " * 20, "\u2581a b"]


def token(content, normalized, **more):
    return {"__type": "AddedToken", "content": content, "lstrip": False, "normalized": normalized, "rstrip": False,
            "single_word": False, **more}


def configs():
    """(kind, tokenizer_config.json): absent, contradicting and unusual fields."""
    extra = [f"<extra_id_{i}>" for i in range(100)]
    for c in [{}, {"pad_token": "!"}, {"pad_token": B}, {"bos_token": "a</w>"}, {"eos_token": "a</w>"}, {"unk_token": B},
              {"bos_token": token(B, False)}, {"eos_token": token(E, False)}, {"eos_token": token(E, True, lstrip=True)},
              {"bos_token": token(B, True), "eos_token": token(E, True), "unk_token": token(E, True), "pad_token": E},
              {"pad_token": token("!", False, rstrip=True)}, {"additional_special_tokens": ["<own>", "cat</w>"]},
              {"additional_special_tokens": [token("<own>", True, lstrip=True)]},
              {"added_tokens_decoder": {"9000": {"content": "zz", "special": False}, "8000": {"content": "yy", "special": True}}},
              {"added_tokens_decoder": {"2046": {"content": B, "normalized": False, "special": True},
                                        "2047": {"content": E, "normalized": True, "special": True}}},
              {"add_prefix_space": True, "do_lower_case": False, "errors": "strict", "model_max_length": 16}]:
        yield "clip", c
    for prefix in ({}, {"add_prefix_space": True}, {"add_prefix_space": False}, {"add_prefix_space": None}):
        for legacy in ({}, {"legacy": True}, {"legacy": False}, {"legacy": None}):
            yield "t5", {**prefix, **legacy}
    for c in [{"extra_ids": 0}, {"extra_ids": 5}, {"extra_ids": 0, "additional_special_tokens": extra}, {"additional_special_tokens": extra},
              {"additional_special_tokens": ["<own>"]}, {"additional_special_tokens": []}, {"pad_token": T5E}, {"eos_token": "<unk>"},
              {"eos_token": token(T5E, True)}, {"pad_token": token("<pad>", True, rstrip=True)}, {"unk_token": "\u2581a"},
              {"added_tokens_decoder": {"0": {"content": "<pad>", "rstrip": True, "special": True, "normalized": True}}},
              {"added_tokens_decoder": {"9001": {"content": "zz", "special": True}, "9000": {"content": "yy", "special": True}}}]:
        yield "t5", c


def under_config(kind, config, bundle):
    with tempfile.TemporaryDirectory() as t:
        source = bundle / ("tokenizer" if kind == "clip" else "tokenizer_3")
        for f in ("vocab.json", "merges.txt") if kind == "clip" else ("spiece.model",):
            shutil.copy(source / f, t)
        (Path(t) / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer = (CLIPTokenizerFast if kind == "clip" else T5TokenizerFast).from_pretrained(t)
        return tokenizer(SHORT, truncation=True, max_length=16, padding="max_length")["input_ids"]


def main(vocab, bundle, out):
    out.mkdir(parents=True, exist_ok=True)
    strings = corpus()
    coded = [s.encode() for s in strings]
    (out / "corpus.bin").write_bytes(b"".join(struct.pack("<H", len(s)) + s for s in coded))
    with tempfile.TemporaryDirectory() as t:
        second = Path(t)
        for f in ("vocab.json", "merges.txt"):
            shutil.copy(vocab / "tokenizer" / f, second)
        shutil.copy(vocab / "tokenizer_2/tokenizer_config.json", second)
        for name, folder, kind in (("clip", vocab / "tokenizer", CLIPTokenizerFast), ("clip_2", second, CLIPTokenizerFast),
                                   ("t5", vocab / "tokenizer_3", T5TokenizerFast),
                                   ("small", bundle / "tokenizer", CLIPTokenizerFast),
                                   ("small_2", bundle / "tokenizer_2", CLIPTokenizerFast),
                                   ("small_3", bundle / "tokenizer_3", T5TokenizerFast)):
            ids = kind.from_pretrained(folder)(strings, truncation=True, max_length=LENGTH)["input_ids"]
            (out / f"{name}.bin").write_bytes(b"".join(struct.pack(f"<B{len(i)}H", len(i), *i) for i in ids))
    cases = [{"kind": k, "config": c, "ids": under_config(k, c, bundle)} for k, c in configs()]
    (out / "configs.json").write_text(json.dumps({"strings": SHORT, "cases": cases}, separators=(",", ":")))
    print(len(strings), "strings,", len(cases), "configs")


if __name__ == "__main__":
    main(*(Path(p) for p in sys.argv[1:4]))
