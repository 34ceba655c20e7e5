"""What a sentence model makes of texts, computed by numpy from the model's own files: the reference of the Rust one.

    local_model.py FOLDER FILE      writes texts and vectors into FILE, as JSON
"""

import json
import math
import random
import struct
import sys
import unicodedata
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

SENTENCES = [
    "The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.",
    "How do I reset my password?", "I forgot my login and cannot get in.", "The canteen serves soup on Tuesdays.",
    "", " ", "a", "A" * 150, "unaffable antidisestablishmentarianism", "naïve café, résumé – “quoted”…",
    "Größenwahn ĳ İstanbul ﬁne Ⅷ", "東京は晴れです。", "привет, мир!", "مرحبا بالعالم", "שלום עולם", "안녕하세요",
    "नमस्ते दुनिया", "tabs\tand\nnew\r\nlines", "lone\rreturn", "zero\u200bwidth soft\u00adhyphen \ufeffmark", "no\u00a0break\u3000space",
    "e\u0301 combining, \u212b compatible", "a+b=c; x<y>z |~` ^_$", "🙂 👩‍👩‍👧 🇩🇪 🥳", "1,234.56 2026-12-01T09:30:00Z",
    "word " * 300, "long " * 254, "long " * 255, "x" * 99 + " " + "y" * 100 + " " + "z" * 101,
]
# Blocks that a text may have letters of: what is a word, a sign, a mark, of no use or not assigned.
BLOCKS = [(0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0x1E00, 0x1FFF),
          (0x2000, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
          (0xF900, 0xFAFF), (0xFE00, 0xFFFF), (0x1F300, 0x1FAFF), (0x20000, 0x2FA1F)]
MADE_UP = 250


def made_up(count: int) -> list[str]:
    """Texts of all blocks; of none that came after the tables of this Python, which both sides may know or not."""
    lot = random.Random(7)

    def letter() -> str:
        first, last = lot.choice(BLOCKS)
        while True:
            one = chr(lot.randint(first, last))
            if unicodedata.category(one) not in ("Cn", "Cs"):
                return one

    words = "the price of a parcel is Red and GREEN unaffordable".split()
    word = lambda: lot.choice(words) if lot.random() < 0.5 else "".join(letter() for _ in range(lot.randint(1, 5)))
    return [" ".join(word() for _ in range(lot.randint(1, 6))) for _ in range(count)]


def weights(file: Path) -> dict[str, np.ndarray]:
    data = file.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    head, body = json.loads(data[8:8 + size]), data[8 + size:]
    read = lambda one: np.frombuffer(body[slice(*one["data_offsets"])], dtype="<f4").reshape(one["shape"])
    return {name: read(one) for name, one in head.items() if name != "__metadata__" and one["dtype"] == "F32"}


def erf(x: np.ndarray) -> np.ndarray:
    """Within 2e-7: Abramowitz and Stegun, 7.1.26."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    rest = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    return np.sign(x) * (1 - rest * np.exp(-x * x))


class Model:
    def __init__(self, folder: Path):
        self.w = weights(folder / "model.safetensors")
        self.config = json.loads((folder / "config.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        most = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        self.tokenizer.enable_truncation(most)

    def linear(self, name, x):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def norm(self, name, x):
        apart = x - x.mean(-1, keepdims=True)
        scaled = apart / np.sqrt((apart ** 2).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return scaled * self.w[name + ".weight"] + self.w[name + ".bias"]

    def attention(self, at, x):
        heads = self.config["num_attention_heads"]
        parts = [self.linear(f"{at}.attention.self.{name}", x) for name in ("query", "key", "value")]
        q, k, v = (part.reshape(len(x), heads, -1).transpose(1, 0, 2) for part in parts)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return (shares @ v).transpose(1, 0, 2).reshape(len(x), -1)

    def vector(self, text: str) -> tuple[list[float], int]:
        ids = self.tokenizer.encode(text).ids
        e = "embeddings."
        x = self.w[e + "word_embeddings.weight"][ids] + self.w[e + "position_embeddings.weight"][:len(ids)]
        x = self.norm(e + "LayerNorm", x + self.w[e + "token_type_embeddings.weight"][0])
        for index in range(self.config["num_hidden_layers"]):
            at = f"encoder.layer.{index}"
            x = self.norm(f"{at}.attention.output.LayerNorm",
                          x + self.linear(f"{at}.attention.output.dense", self.attention(at, x)))
            wide = self.linear(f"{at}.intermediate.dense", x)
            wide = 0.5 * wide * (1 + erf(wide / math.sqrt(2)))
            x = self.norm(f"{at}.output.LayerNorm", x + self.linear(f"{at}.output.dense", wide))
        mean = x.mean(0)
        return (mean / np.linalg.norm(mean)).tolist(), len(ids)


def main() -> None:
    folder, file = map(Path, sys.argv[1:3])
    model = Model(folder)
    made = [(text, *model.vector(text)) for text in SENTENCES + made_up(MADE_UP)]
    told = [{"text": text, "vector": vector, "tokens": tokens} for text, vector, tokens in made]
    file.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
