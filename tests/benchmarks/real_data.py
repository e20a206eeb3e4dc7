"""Real pictures, words, files and voices for the networks of ``real_files``, from what public wheels ship.

Runs in that benchmark's own environment: needs scikit-image, scikit-learn, pillow and an unpacked django beside the wheels.
Every function takes ``part``: ``"job"`` for what the product is given, ``"judge"`` for what only the benchmark sees. The
two share no pixel, no word and no file. ``"again"`` draws anew from the job's own pictures, words and files.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Part = Literal["job", "judge", "again"]
_PARTS = ("job", "judge", "again")

_PICTURES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "colorwheel",
)
_JOB_SHARE = 0.6  # of each picture's width, and of each list of words or files; the rest is the judge's
_RATE_HZ = 16_000


def generator(part: Part, seed: int = 0) -> np.random.Generator:
    """Draws for one part; the other parts' are others."""
    return np.random.default_rng([seed, _PARTS.index(part)])


def pictures(part: Part, count: int, height: int, width: int) -> Array:
    """Crops of colour photographs, mirrored and lit at random, uint8 (count, height, width, 3), RGB."""
    from PIL import Image

    draw, found = generator(part), []
    for _ in range(count):
        whole = _photographs()[draw.integers(len(_photographs()))]
        border = int(_JOB_SHARE * whole.shape[1])
        half = whole[:, :border] if part != "judge" else whole[:, border:]
        side = int(draw.uniform(0.4, 1.0) * min(half.shape[:2]))
        top, left = (int(draw.integers(0, n - side + 1)) for n in half.shape[:2])
        crop = half[top : top + side, left : left + side]
        crop = crop[:, ::-1] if draw.random() < 0.5 else crop
        image = Image.fromarray(np.ascontiguousarray(crop)).resize((width, height), Image.Resampling.BILINEAR)
        found.append(np.clip(np.asarray(image) * draw.uniform(0.6, 1.3), 0, 255).astype(np.uint8))
    return np.stack(found)


@functools.cache
def _photographs() -> list[Array]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    return [getattr(data, name)()[..., :3] for name in _PICTURES] + list(load_sample_images().images)


def faces(part: Part, count: int, side: int) -> Array:
    """Faces and patches without one (half each) of the LFW subset in scikit-image, uint8 (count, side, side, 3)."""
    from PIL import Image
    from skimage import data

    images = data.lfw_subset()
    draw = generator(part)
    kept = int(_JOB_SHARE * 100)
    rows = np.concatenate([np.arange(kept), 100 + np.arange(kept)])
    if part == "judge":
        rows = np.setdiff1d(np.arange(200), rows)
    found = []
    for row in draw.choice(rows, count):
        image = np.clip(images[row] * 255 * draw.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
        image = image[:, ::-1] if draw.random() < 0.5 else image
        resized = Image.fromarray(np.ascontiguousarray(image)).resize((side, side), Image.Resampling.BICUBIC)
        found.append(np.repeat(np.asarray(resized)[..., None], 3, axis=-1))
    return np.stack(found)


def lines(part: Part, count: int, height: int, width: int, *, turned: bool = False) -> Array:
    """Printed words as a scanner sees them, uint8 (count, height, width, 3); with ``turned`` half stand on their heads."""
    from PIL import Image, ImageDraw, ImageFont

    draw, words, found = generator(part), sentences(part, "en"), []
    for i in range(count):
        paper, ink = draw.integers(170, 256, 3), draw.integers(0, 110, 3)
        image = Image.new("RGB", (width, height), tuple(int(v) for v in paper))
        font = ImageFont.load_default(size=int(height * draw.uniform(0.5, 0.75)))
        text = words[draw.integers(len(words))]
        start = int(draw.integers(0, max(1, len(text) - 20)))
        place = (int(draw.integers(1, 8)), int(draw.integers(0, max(1, height // 6))))
        ImageDraw.Draw(image).text(place, text[start:], fill=tuple(int(v) for v in ink), font=font)
        picture = np.asarray(image) + draw.normal(0, draw.uniform(1, 10), (height, width, 3))
        picture = picture[::-1, ::-1] if turned and i % 2 else picture
        found.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(found)


def pages(part: Part, count: int, height: int, width: int) -> Array:
    """Several printed lines on photographs or plain paper, uint8 (count, height, width, 3)."""
    draw, found = generator(part), pictures(part, count, height, width)
    strips = lines(part, 4 * count, max(16, height // 10), int(0.8 * width))
    for i, page in enumerate(found):
        if draw.random() < 0.5:
            page[:] = draw.integers(180, 256)
        for strip in strips[4 * i : 4 * i + 1 + int(draw.integers(4))]:
            top, left = (int(draw.integers(0, a - b)) for a, b in zip(page.shape[:2], strip.shape[:2], strict=True))
            page[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    return found


def captchas(part: Part, count: int, height: int, width: int, alphabet: str, letters: int) -> Array:
    """Distorted letters under strokes and dots, uint8 (count, height, width, 3), RGB."""
    from PIL import Image, ImageDraw, ImageFont

    draw, found = generator(part), []
    for _ in range(count):
        image = Image.new("RGB", (width, height), tuple(int(v) for v in draw.integers(200, 256, 3)))
        for i, letter in enumerate(draw.choice(list(alphabet), letters)):
            tile = Image.new("L", (height, height), 0)
            font = ImageFont.load_default(size=int(height * draw.uniform(0.55, 0.8)))
            ImageDraw.Draw(tile).text((height // 4, height // 10), str(letter), fill=255, font=font)
            tile = tile.rotate(float(draw.uniform(-20, 20)))
            place = (int(i * width / letters) - height // 8 + int(draw.integers(-3, 4)), int(draw.integers(-4, 5)))
            image.paste(tuple(int(v) for v in draw.integers(0, 130, 3)), place, tile)
        pen = ImageDraw.Draw(image)
        for _ in range(int(draw.integers(1, 5))):
            ends = [int(v) for v in draw.integers(0, [width, height, width, height])]
            pen.line(ends, fill=tuple(int(v) for v in draw.integers(0, 200, 3)))
        found.append(np.clip(np.asarray(image) + draw.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8))
    return np.stack(found)


def sentences(part: Part, language: str) -> list[str]:
    """What people wrote: the docstrings of scipy for ``en``, else django's own translations, such as ``zh_Hans``, ``th``."""
    kept = sorted(set(_english() if language == "en" else _translated(language)))
    np.random.default_rng(0).shuffle(kept)
    border = int(_JOB_SHARE * len(kept))
    return kept[:border] if part != "judge" else kept[border:]


def _english() -> Iterator[str]:
    import scipy

    for path in sorted(Path(scipy.__file__).parent.glob("[si]*/_*.py")):
        text = path.read_text(errors="ignore")
        yield from (
            " ".join(s.split()) for s in re.findall(r"\n\s+([A-Z][a-z]+ [^\"'`=>*:;\[\]{}#]{30,200}?\.)\s", text)
        )


def _translated(language: str) -> Iterator[str]:
    import django

    for path in sorted(Path(django.__file__).parent.rglob(f"locale/{language}/LC_MESSAGES/*.po")):
        for block in re.findall(r'msgstr(?:\[0\])? ((?:"[^\n]*"\n)+)', path.read_text(encoding="utf-8")):
            text = "".join(re.findall(r'"(.*)"', block)).replace('\\"', '"').replace("\\n", " ")
            text = re.sub(r"%\(\w+\)[sd]|%[sd]|\{[^}]*\}|<[^>]*>", "", text).strip()
            if len(text) > 3 and "Content-Type" not in text:
                yield text


def files(part: Part, count: int) -> list[bytes]:
    """Files of some twenty kinds, whole, out of this environment."""
    import sklearn

    root = Path(sklearn.__file__).parent.parent
    kinds: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and 64 < path.stat().st_size < 200_000:
            kinds.setdefault(path.suffix, []).append(path)
    draw, names = generator(part), sorted(k for k, v in kinds.items() if len(v) >= 8)
    found = []
    for _ in range(count):
        paths = kinds[str(draw.choice(names))]
        border = int(_JOB_SHARE * len(paths))
        mine = paths[:border] if part != "judge" else paths[border:]
        found.append(mine[int(draw.integers(len(mine)))].read_bytes())
    return found


def voices(part: Part, count: int, samples: int, rate_hz: int = _RATE_HZ) -> Array:
    """Vowels of a source-filter model between pauses, over noise, float32 (count, samples) in [-1, 1].

    Klatt, Software for a cascade/parallel formant synthesizer, J. Acoust. Soc. Am. 67 (1980): glottal pulses through
    resonators at the vowel's formants.
    """
    from scipy import signal

    draw, time_s = generator(part), np.arange(samples) / rate_hz
    formants = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]])
    found = []
    for _ in range(count):
        pitch_hz = draw.uniform(90, 240) * (1 + 0.1 * np.sin(2 * np.pi * draw.uniform(1, 5) * time_s))
        sound = np.diff(np.cumsum(pitch_hz) / rate_hz % 1, prepend=0.0) * -1.0
        for centre_hz in formants[draw.integers(len(formants))] * draw.uniform(0.9, 1.15):
            pole = np.exp(-np.pi * 90 / rate_hz)  # formants are some 90 Hz wide
            sound = signal.lfilter([1 - pole], [1, -2 * pole * np.cos(2 * np.pi * centre_hz / rate_hz), pole**2], sound)
        spoken = np.repeat(draw.random(-(-samples // 800)) < draw.choice([0.0, 0.6, 1.0]), 800)[:samples]
        sound = sound / (np.abs(sound).max() + 1e-9) * np.convolve(spoken, np.ones(160) / 160, "same")
        noise = draw.normal(0, 1, samples) * 10 ** draw.uniform(-4, -1)
        found.append(np.clip(sound * draw.uniform(0.1, 0.9) + noise, -1, 1))
    return np.asarray(found, np.float32)


def music(part: Part, count: int, samples: int, rate_hz: int) -> Array:
    """Plucked strings, one to three notes at a time, float32 (count, samples): Karplus and Strong (1983), by harmonics."""
    draw, time_s, found = generator(part), np.arange(samples) / rate_hz, []
    for _ in range(count):
        sound = np.zeros(samples)
        for _ in range(int(draw.integers(2, 9))):
            note_hz, start_s = 440 * 2 ** ((draw.integers(40, 85) - 69) / 12), draw.uniform(0, 1.8)
            since_s = np.maximum(time_s - start_s, 0)
            for k in range(1, 9):
                decay = np.exp(-since_s * draw.uniform(1, 2) * k)
                sound += (time_s > start_s) * decay * np.sin(2 * np.pi * k * note_hz * since_s) / k
        found.append(0.5 * sound / (np.abs(sound).max() + 1e-9) + draw.normal(0, 1e-3, samples))
    return np.asarray(found, np.float32)


def brain_waves(part: Part, count: int, samples: int, rate_hz: int) -> Array:
    """Pink noise with spindles of 11 to 15 Hz, float32 (count, samples), unit variance: what a sleeping cortex looks like."""
    draw, time_s, found = generator(part), np.arange(samples) / rate_hz, []
    for _ in range(count):
        spectrum = np.fft.rfft(draw.normal(0, 1, samples)) / np.sqrt(np.maximum(np.arange(samples // 2 + 1), 1))
        sound = np.fft.irfft(spectrum, samples)
        sound /= sound.std()
        for _ in range(int(draw.integers(0, 5))):
            middle_s, pitch_hz = draw.uniform(0, time_s[-1]), draw.uniform(11, 15)
            sound += 2 * np.exp(-(((time_s - middle_s) / 0.4) ** 2)) * np.sin(2 * np.pi * pitch_hz * time_s)
        found.append((sound - sound.mean()) / sound.std())
    return np.asarray(found, np.float32)


def planar(pixels: Array, mean: float | list[float], spread: float | list[float], *, bgr: bool = False) -> Array:
    """Pixels (N, H, W, 3) of 0 to 255 as (N, 3, H, W) float32, scaled: (pixel / 255 - mean) / spread."""
    channels = pixels[..., ::-1] if bgr else pixels
    scaled = (channels.astype(np.float32) / 255 - np.float32(mean)) / np.float32(spread)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def indices(
    texts: list[str], number: Callable[[str], int], length: int, count: int, draw: np.random.Generator
) -> Array:
    """Windows of ``length`` characters, all within one text run together, int64 (count, length)."""
    stream = [number(c) for c in " ".join(texts)]
    starts = draw.integers(0, len(stream) - length, count)
    return np.asarray([stream[s : s + length] for s in starts], np.int64)
