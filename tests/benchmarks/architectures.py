"""Compact networks in torch, one a family: the blocks of the published ones, fewer and narrower, random weights."""

# mypy: ignore-errors
# ruff: noqa: D102, E501, N812
# torch is not installed where types are checked; the blocks say themselves what they are.
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Build = Callable[[], nn.Module]


def conv(
    c_in: int, c_out: int, k: int = 3, stride: int = 1, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, *([act()] if act else []))


def head(channels: int, classes: int = 10) -> nn.Sequential:
    """Pool, flatten, classify."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """relu(body(x) + shortcut(x))."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None, act: bool = True) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut or nn.Identity(), act

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x) + self.shortcut(x)
        return F.relu(y) if self.act else y


class Concat(nn.Module):
    """Branches side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def resnet(widths: Sequence[int], depth: int, bottleneck: bool = False, groups: int = 1) -> nn.Module:
    """Basic or bottleneck residual stages; grouped bottlenecks are ResNeXt and RegNet."""
    stem = widths[0]
    layers: list[nn.Module] = [conv(3, stem)]
    before = stem
    for stage, width in enumerate(widths):
        out = 2 * width if bottleneck else width
        for block in range(depth):
            stride = 2 if block == 0 and stage else 1
            if bottleneck:
                body = nn.Sequential(
                    conv(before, width, 1), conv(width, width, 3, stride, groups), conv(width, out, 1, act=None)
                )
            else:
                body = nn.Sequential(conv(before, width, 3, stride), conv(width, width, act=None))
            shortcut = conv(before, out, 1, stride, act=None) if stride > 1 or before != out else None
            layers.append(Residual(body, shortcut))
            before = out
    return nn.Sequential(*layers, head(before))


def vgg() -> nn.Module:
    """Plain stages and three fully connected layers behind a flatten."""
    layers: list[nn.Module] = []
    before = 3
    for width in (16, 24, 32):
        layers += [
            nn.Conv2d(before, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
        before = width
    classifier = [
        nn.Flatten(),
        nn.Linear(32 * 16, 64),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), *classifier)


def alexnet() -> nn.Module:
    """Large kernels, overlapping pools."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, 2, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(),
        nn.Conv2d(32, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Dropout(),
        nn.Linear(24 * 9, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def googlenet() -> nn.Module:
    """Inception blocks of four branches."""

    def block(c: int) -> nn.Module:
        pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(c, 8, 1))
        return Concat(
            conv(c, 12, 1), nn.Sequential(conv(c, 8, 1), conv(8, 16)), nn.Sequential(conv(c, 6, 1), conv(6, 8, 5)), pool
        )

    return nn.Sequential(conv(3, 16, stride=2), block(16), block(44), nn.MaxPool2d(2), block(44), head(44))


def inception() -> nn.Module:
    """Factorised 1 x 7 and 7 x 1 kernels, an average pool branch, a strided reduction."""

    def factorised(c: int) -> nn.Module:
        tall = nn.Sequential(
            conv(c, 12, 1),
            nn.Conv2d(12, 12, (1, 7), padding=(0, 3)),
            nn.Conv2d(12, 16, (7, 1), padding=(3, 0)),
            nn.ReLU(),
        )
        pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), conv(c, 8, 1))
        return Concat(conv(c, 12, 1), tall, pool)

    reduction = Concat(conv(36, 16, 3, 2), nn.Sequential(conv(36, 12, 1), conv(12, 16, 3, 2)), nn.MaxPool2d(3, 2, 1))
    return nn.Sequential(conv(3, 16, stride=2), factorised(16), reduction, factorised(68), head(36))


class DenseBlock(nn.Module):
    """Every layer reads all before it."""

    def __init__(self, channels: int, growth: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c := channels + i * growth), nn.ReLU(), nn.Conv2d(c, 4 * growth, 1, bias=False), nn.BatchNorm2d(4 * growth),
                          nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False))
            for i in range(count)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


def densenet() -> nn.Module:
    """Two dense blocks and a transition."""
    transition = nn.Sequential(nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 24, 1, bias=False), nn.AvgPool2d(2))
    return nn.Sequential(
        conv(3, 16, stride=2),
        DenseBlock(16, 8, 4),
        transition,
        DenseBlock(24, 8, 4),
        nn.BatchNorm2d(56),
        nn.ReLU(),
        head(56),
    )


def squeezenet() -> nn.Module:
    """Fire modules; the classifier is a convolution."""

    def fire(c: int, squeeze: int, expand: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(c, squeeze, 1),
            nn.ReLU(),
            Concat(nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)),
            nn.ReLU(),
        )

    layers = [nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), fire(16, 8, 16), fire(32, 8, 24)]
    return nn.Sequential(*layers, nn.Conv2d(48, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class SqueezeExcite(nn.Module):
    """Channel gates."""

    def __init__(self, channels: int, squeezed: int, gate: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        self.gates = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gates(x)


def inverted(
    c_in: int,
    c_out: int,
    expand: int,
    stride: int = 1,
    k: int = 3,
    act: type[nn.Module] = nn.ReLU6,
    gate: type[nn.Module] | None = None,
) -> nn.Module:
    """Expand, depthwise, perhaps squeeze-excite, project."""
    middle = c_in * expand
    extra = [SqueezeExcite(middle, max(4, middle // 4), gate)] if gate else []
    body = nn.Sequential(
        conv(c_in, middle, 1, act=act),
        conv(middle, middle, k, stride, middle, act=act),
        *extra,
        conv(middle, c_out, 1, act=None),
    )
    return Residual(body, act=False) if stride == 1 and c_in == c_out else body


def mobilenet(act: type[nn.Module] = nn.ReLU6, gate: type[nn.Module] | None = None, k: int = 3) -> nn.Module:
    """MobileNetV2, V3, MNASNet and EfficientNet, by activation, gate and kernel."""
    stages = [
        inverted(16, 16, 2, 1, 3, act, gate),
        inverted(16, 24, 4, 2, k, act, gate),
        inverted(24, 24, 4, 1, k, act, gate),
        inverted(24, 32, 4, 2, k, act, gate),
    ]
    return nn.Sequential(conv(3, 16, 3, 2, act=act), *stages, conv(32, 96, 1, act=act), head(96))


class Shuffle(nn.Module):
    """ShuffleNetV2: half passes, half is convolved, channels are shuffled."""

    def __init__(self, c: int, stride: int = 1) -> None:
        super().__init__()
        half = c // 2
        inner = c if stride > 1 else half
        self.right = nn.Sequential(
            conv(inner, half, 1), conv(half, half, 3, stride, half, act=None), conv(half, half, 1)
        )
        self.left = nn.Sequential(conv(c, c, 3, stride, c, act=None), conv(c, half, 1)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.left is None:
            left, right = x.chunk(2, dim=1)
            y = torch.cat([left, self.right(right)], 1)
        else:
            y = torch.cat([self.left(x), self.right(x)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    """A strided unit and two plain ones."""
    return nn.Sequential(conv(3, 24, 3, 2), Shuffle(24, 2), Shuffle(24), Shuffle(24), conv(24, 48, 1), head(48))


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7 x 7, norm, MLP, layer scale."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c)
        self.up, self.down, self.scale = nn.Linear(c, 4 * c), nn.Linear(4 * c, c), nn.Parameter(0.5 * torch.ones(c))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Two stages."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4),
        LayerNorm2d(16),
        ConvNeXtBlock(16),
        LayerNorm2d(16),
        nn.Conv2d(16, 32, 2, 2),
        ConvNeXtBlock(32),
        head(32),
    )


class UNet(nn.Module):
    """Two levels, transposed convolutions, skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = conv(3, 12), conv(12, 16), conv(16, 24)
        self.up2, self.up1 = nn.ConvTranspose2d(24, 16, 2, 2), nn.ConvTranspose2d(16, 12, 2, 2)
        self.dec2, self.dec1, self.out = conv(32, 16), conv(24, 12), nn.Conv2d(12, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = self.up2(self.bottom(F.max_pool2d(b, 2)))
        y = self.up1(self.dec2(torch.cat([y, b], 1)))
        return self.out(self.dec1(torch.cat([y, a], 1)))


class Detector(nn.Module):
    """A backbone, a feature pyramid with upsampling, and heads of boxes and classes on two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.c3, self.c4 = conv(3, 16, 3, 2), conv(16, 24, 3, 2), conv(24, 32, 3, 2)
        self.lateral3, self.lateral4, self.smooth = nn.Conv2d(24, 20, 1), nn.Conv2d(32, 20, 1), conv(20, 20)
        self.boxes, self.classes = nn.Conv2d(20, 3 * 4, 3, padding=1), nn.Conv2d(20, 3 * 5, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        c3 = self.c3(self.stem(x))
        p4 = self.lateral4(self.c4(c3))
        p3 = self.smooth(self.lateral3(c3) + F.interpolate(p4, scale_factor=2.0, mode="nearest"))
        boxes = [self.boxes(p).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4) for p in (p3, p4)]
        classes = [self.classes(p).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 5) for p in (p3, p4)]
        return torch.cat(boxes, 1), torch.cat(classes, 1).sigmoid()


class Block(nn.Module):
    """A pre-norm transformer block, packed q, k, v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attend(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches, a class token, position embeddings, blocks."""

    def __init__(self, width: int = 48, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 17, width))
        self.blocks, self.norm, self.head = (
            nn.Sequential(Block(width, heads), Block(width, heads)),
            nn.LayerNorm(width),
            nn.Linear(width, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class SwinBlock(Block):
    """Attention within shifted windows of 4 x 4, with a relative bias a head."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__(width, heads)
        self.shift, self.bias = shift, nn.Parameter(torch.randn(heads, 16, 16))

    def attend(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1) + self.bias).softmax(-1)
        x = self.out((weights @ v).transpose(1, 2).reshape(-1, 16, c))
        x = x.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class Swin(nn.Module):
    """A stage of windows, patch merging, another stage."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 24, 4, 4)
        self.first = nn.Sequential(SwinBlock(24, 3, 0), SwinBlock(24, 3, 2))
        self.merge, self.second, self.norm, self.head = (
            nn.Linear(96, 48, bias=False),
            SwinBlock(48, 6, 0),
            nn.LayerNorm(48),
            nn.Linear(48, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.patches(x).permute(0, 2, 3, 1))
        x = torch.cat([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
        return self.head(self.norm(self.second(self.merge(x))).mean((1, 2)))


class Bert(nn.Module):
    """Token and position embeddings, post-norm encoder layers with separate q, k, v."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.tokens, self.positions, self.norm = nn.Embedding(100, width), nn.Embedding(32, width), nn.LayerNorm(width)
        self.heads = heads
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "q": nn.Linear(width, width), "k": nn.Linear(width, width), "v": nn.Linear(width, width), "o": nn.Linear(width, width),
                "n1": nn.LayerNorm(width), "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width), "n2": nn.LayerNorm(width),
            }) for _ in range(2)
        )  # fmt: skip
        self.head = nn.Linear(width, 3)

    def forward(self, ids: Tensor) -> Tensor:
        n, t = ids.shape
        x = self.norm(self.tokens(ids) + self.positions(torch.arange(t, device=ids.device)))
        for part in self.layers:
            q, k, v = (part[name](x).view(n, t, self.heads, -1).transpose(1, 2) for name in "qkv")
            weights = (q @ k.transpose(-2, -1) / (q.shape[-1] ** 0.5)).softmax(-1)
            x = part["n1"](x + part["o"]((weights @ v).transpose(1, 2).reshape(n, t, -1)))
            x = part["n2"](x + part["down"](F.gelu(part["up"](x))))
        return self.head(x[:, 0])


class Gpt(nn.Module):
    """Decoder: grouped queries, rotary positions, RMS norm, gated MLP, causal."""

    def __init__(self, width: int = 32, heads: int = 4, shared: int = 2) -> None:
        super().__init__()
        self.heads, self.shared, self.depth = heads, shared, width // heads
        self.tokens, self.scale = nn.Embedding(64, width), nn.ParameterList(torch.ones(width) for _ in range(3))
        self.q, self.o = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, shared * self.depth, bias=False) for _ in range(2))
        self.gate, self.up, self.down = (
            nn.Linear(width, 80, bias=False),
            nn.Linear(width, 80, bias=False),
            nn.Linear(80, width, bias=False),
        )
        angle = torch.outer(torch.arange(16.0), 100.0 ** (-torch.arange(0, self.depth, 2) / self.depth))
        self.register_buffer("cosine", torch.cat([angle.cos()] * 2, -1))
        self.register_buffer("sine", torch.cat([angle.sin()] * 2, -1))
        self.head = nn.Linear(width, 64, bias=False)

    def _rms(self, x: Tensor, i: int) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale[i]

    def _rotate(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return x * self.cosine + torch.cat([-b, a], -1) * self.sine  # type: ignore[operator]

    def forward(self, ids: Tensor) -> Tensor:
        n, t = ids.shape
        x = self.tokens(ids)
        y = self._rms(x, 0)
        q = self._rotate(self.q(y).view(n, t, self.heads, self.depth).transpose(1, 2))
        k = self._rotate(self.k(y).view(n, t, self.shared, self.depth).transpose(1, 2))
        v = self.v(y).view(n, t, self.shared, self.depth).transpose(1, 2)
        k, v = (z.repeat_interleave(self.heads // self.shared, dim=1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(n, t, -1))
        y = self._rms(x, 1)
        x = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return self.head(self._rms(x, 2))


class Recurrent(nn.Module):
    """A recurrent layer and a classifier of the last step."""

    def __init__(self, layer: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = layer(12, 24, batch_first=True, **options)
        self.head = nn.Linear(48 if options.get("bidirectional") else 24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def images(*size: int) -> Tensor:
    """Normal inputs of two samples."""
    return torch.randn(2, *size)


def tokens(count: int) -> Tensor:
    """Token ids of two samples."""
    return torch.randint(0, 64, (2, count))


IMAGE = (3, 32, 32)
ARCHITECTURES: dict[str, tuple[Build, Callable[[], Tensor]]] = {
    "ResNet-18": (lambda: resnet((16, 24, 32), 2), lambda: images(*IMAGE)),
    "ResNet-50": (lambda: resnet((12, 16, 24), 2, bottleneck=True), lambda: images(*IMAGE)),
    "ResNet-56": (lambda: resnet((8, 12, 16), 9), lambda: images(*IMAGE)),
    "WideResNet": (lambda: resnet((32, 48), 2), lambda: images(*IMAGE)),
    "VGG-16": (vgg, lambda: images(*IMAGE)),
    "AlexNet": (alexnet, lambda: images(*IMAGE)),
    "GoogLeNet": (googlenet, lambda: images(*IMAGE)),
    "Inception-v3": (inception, lambda: images(*IMAGE)),
    "DenseNet-121": (densenet, lambda: images(*IMAGE)),
    "SqueezeNet": (squeezenet, lambda: images(*IMAGE)),
    "MobileNetV2": (mobilenet, lambda: images(*IMAGE)),
    "MobileNetV3": (lambda: mobilenet(nn.Hardswish, nn.Hardsigmoid, 5), lambda: images(*IMAGE)),
    "EfficientNet-B0": (lambda: mobilenet(nn.SiLU, nn.Sigmoid, 5), lambda: images(*IMAGE)),
    "MNASNet": (lambda: mobilenet(nn.ReLU, None, 5), lambda: images(*IMAGE)),
    "ShuffleNetV2": (shufflenet, lambda: images(*IMAGE)),
    "RegNet": (lambda: resnet((24, 48), 2, bottleneck=True, groups=3), lambda: images(*IMAGE)),
    "ResNeXt": (lambda: resnet((32, 64), 2, bottleneck=True, groups=16), lambda: images(*IMAGE)),
    "ConvNeXt": (convnext, lambda: images(*IMAGE)),
    "U-Net": (UNet, lambda: images(*IMAGE)),
    "Detector with FPN": (Detector, lambda: images(*IMAGE)),
    "ViT-small": (ViT, lambda: images(*IMAGE)),
    "Swin-tiny": (Swin, lambda: images(*IMAGE)),
    "BERT-small": (Bert, lambda: tokens(16)),
    "GPT, grouped queries": (Gpt, lambda: tokens(16)),
    "GRU": (lambda: Recurrent(nn.GRU), lambda: images(9, 12)),
    "LSTM": (lambda: Recurrent(nn.LSTM), lambda: images(9, 12)),
    "LSTM, two layers, both ways": (
        lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
        lambda: images(9, 12),
    ),
}
