"""MobileStyleGAN, FFHQ 1024: the default generator.

Belousov, "MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image
Synthesis" (2021): depthwise convolutions and inverse Haar transforms, distilled from StyleGAN2.
The weights are read from the OpenVINO files that the PyPI package random_face ships; the per-slot W+
input and the early exits are this project's.

W+ has 23 slots: 0 is the 4x4 convolution; layer i (0..6, at 8..512 pixels) uses 3i+1 (up and conv1),
3i+2 (conv2) and 3i+3 (its image head). Of the image heads only the last (slot 21) ships.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import WeightsError
from ..perceptual import channels_last
from ..weights import WeightStore, read_tensors, shipped

LAYERS = 7
EXITS = (128, 256, 512)  # picture sizes of the early exits
SLOTS = 3 * LAYERS + 2
NATIVE_SIZE = 1024
LEAK = 0.2
_ELEMENT: dict[str, np.dtype[Any]] = {"f32": np.dtype("<f4"), "i64": np.dtype("<i8"), "i32": np.dtype("<i4")}


def haar_upsample(x: Tensor) -> Tensor:
    """Inverse Haar transform. [N,4C,H,W] (C channels of LL, then of LH, HL and HH) -> [N,C,2H,2W]."""
    return _doubled(x * 0.5)


def _doubled(x: Tensor) -> Tensor:
    """The same, of coefficients that are halved already."""
    n, c4, height, width = x.shape
    # Channels last, as the convolutions have them: no copy before, none after.
    ll, lh, hl, hh = x.permute(0, 2, 3, 1).chunk(4, 3)  # [N,H,W,C]
    low, high, cross, rest = ll + lh, hl + hh, ll - lh, hl - hh
    if torch.is_grad_enabled():
        rows = torch.stack([low + high, low - high], 3), torch.stack([cross + rest, cross - rest], 3)
        doubled = torch.stack(rows, 2)
    else:  # written to its place at once
        doubled = x.new_empty(n, height, 2, width, 2, c4 // 4)
        for row, (even, odd) in enumerate(((low, high), (cross, rest))):
            torch.add(even, odd, out=doubled[:, :, row, :, 0])
            torch.sub(even, odd, out=doubled[:, :, row, :, 1])
    return doubled.reshape(n, 2 * height, 2 * width, c4 // 4).permute(0, 3, 1, 2)


def haar_downsample(x: Tensor) -> Tensor:
    """Haar transform, the inverse of the upsampling: [N,C,2H,2W] -> [N,4C,H,W]."""
    n, c, height, width = x.shape
    a, b, d, e = F.pixel_unshuffle(x, 2).reshape(n, c, 4, height // 2, width // 2).unbind(2)
    return torch.cat([a + b + d + e, a + b - d - e, a - b + d - e, a - b - d + e], 1) * 0.5


def in_blocks(coefficients: Tensor) -> Tensor:
    """A network's channels [4C,...] as `haar_upsample` takes them.

    Its file has LH, HL and HH by turns; in blocks they are added up several times as fast.
    """
    c = len(coefficients) // 4
    return torch.cat([coefficients[:c], *(coefficients[c + band :: 3] for band in range(3))])


class _Affine(nn.Module):
    """w -> one factor a channel; `gain` is the equalised learning rate's constant."""

    def __init__(self, weight: Tensor, bias: Tensor, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight * gain)  # [C,512]
        self.bias = nn.Parameter(bias.reshape(-1) * gain)  # [C]

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight, self.bias)[:, :, None, None]  # [N,C,1,1]


class _StyledConv(nn.Module):
    """Modulate, convolve (dense, or depthwise then 1x1), add noise and bias, leak.

    The demodulation is a constant of this network, already folded into the weights.
    """

    def __init__(
        self, constants: dict[str, Tensor], name: str, weight: Tensor, noise: Tensor, upsampled: bool = False
    ) -> None:
        """`upsampled`: a Haar transform follows."""
        super().__init__()
        modulation = constants[f"{name}.conv.modulation.weight"]
        gain = 1 / math.sqrt(len(modulation) * 9)
        self.style = _Affine(modulation, constants[f"{name}.conv.modulation.bias"], gain)
        depthwise = constants.get(f"{name}.conv.weight_dw")
        self.depthwise = None if depthwise is None else nn.Parameter(depthwise.squeeze(1))  # [C,1,3,3]
        bias = constants[f"{name}.bias"].reshape(-1)
        # [O,C,1,1], or [O,C,3,3] where there is no depthwise part
        self.weight = nn.Parameter(in_blocks(weight) if upsampled else weight)
        self.bias = nn.Parameter(in_blocks(bias) if upsampled else bias)  # [O]
        self.noise = nn.Parameter(noise)  # [1,1,H,W], constant, already times its strength

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x, depthwise, weight = _modulated(x, self.style(w), self.depthwise, self.weight)
        if depthwise is not None:
            x = F.conv2d(x, depthwise, padding=1, groups=len(depthwise))
        flat = self.noise.numel() == 1  # a part of the bias
        bias = self.bias + self.noise.reshape(-1) if flat else self.bias
        x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)  # [N,O,H,W]
        return F.leaky_relu_(x if flat else x.add_(self.noise), LEAK)


def _modulated(
    x: Tensor, style: Tensor, depthwise: Tensor | None, weight: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Features [N,C,H,W], a depthwise kernel [C,1,3,3] and a weight [O,C,K,K], of which the first takes the style.

    Of one picture it is the kernel, as in StyleGAN2, which saves a pass over the features; where a gradient is wanted,
    the kernel's own would cost more than that.
    """
    if len(x) > 1 or torch.is_grad_enabled():
        return x * style, depthwise, weight
    if depthwise is None:
        return x, None, weight * style
    return x, depthwise * style.transpose(0, 1), weight


class _Layer(nn.Module):
    """Modulated Haar upsampling and two styled convolutions: [N,C,H,W] -> [N,O,2H,2W]."""

    def __init__(self, constants: dict[str, Tensor], index: int, weights: list[Tensor], noises: list[Tensor]) -> None:
        super().__init__()
        name = f"m.layers.{index}"
        modulation, bias = (constants[f"{name}.up.modulation.{part}"] for part in ("weight", "bias"))
        self.up = _Affine(in_blocks(modulation), in_blocks(bias.reshape(-1)))
        self.conv1 = _StyledConv(constants, f"{name}.conv1", weights[0], noises[0])
        self.conv2 = _StyledConv(constants, f"{name}.conv2", weights[1], noises[1], upsampled=index < LAYERS - 1)

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        x = _doubled(x * (0.5 * self.up(w1)))
        return self.conv2(self.conv1(x, w1), w2)  # type: ignore[no-any-return]  # a module's call is untyped


class _ToImage(nn.Module):
    """The network's own image head: [N,64,512,512] -> [N,3,1024,1024]."""

    def __init__(self, constants: dict[str, Tensor], weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        name = f"m.layers.{LAYERS - 1}.to_img.conv.modulation"
        modulation = constants[f"{name}.weight"]
        self.style = _Affine(modulation, constants[f"{name}.bias"], 1 / math.sqrt(len(modulation)))
        self.weight = nn.Parameter(in_blocks(weight))  # [12,64,1,1]
        self.bias = nn.Parameter(in_blocks(bias.reshape(-1)))  # [12]

    def transform(self, x: Tensor, w: Tensor) -> Tensor:
        """The picture's Haar transform [N,12,512,512]."""
        x, _, weight = _modulated(x, self.style(w), None, self.weight)
        return F.conv2d(x, weight, self.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return haar_upsample(self.transform(x, w))


def read_constants(xml: Path, data: Path) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """The constants of an OpenVINO IR file as (name, array), in the file's order."""
    try:
        layers = ElementTree.parse(xml).getroot().iter("layer")
        raw = data.read_bytes()
        for layer in layers:
            about = layer.find("data")
            if layer.get("type") != "Const" or about is None:
                continue
            shape = [int(n) for n in about.get("shape", "").split(",") if n.strip()]
            dtype = _ELEMENT[about.get("element_type", "")]
            start, size = int(about.get("offset", 0)), int(about.get("size", 0))
            yield layer.get("name", ""), np.frombuffer(raw[start : start + size], dtype).reshape(shape)
    except (ElementTree.ParseError, KeyError, ValueError) as error:
        reason = f"not the OpenVINO file that was expected ({error}); delete it to fetch it anew"
        raise WeightsError(f"{xml}: {reason}") from error


class Mapping(nn.Module):
    """z [N,512] normal -> w [N,512]."""

    def __init__(self, constants: list[Tensor]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([c for c in constants if c.shape == (512, 512)])  # already scaled
        self.biases = nn.ParameterList([c for c in constants if c.shape == (512,)])

    def forward(self, z: Tensor) -> Tensor:
        """[N,512] -> [N,512]."""
        x = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = F.leaky_relu(F.linear(x, weight, bias), LEAK) * math.sqrt(2)
        return x


class Synthesis(nn.Module):
    """W+ [N,23,512] -> hidden features and the full picture."""

    def __init__(self, constants: dict[str, Tensor]) -> None:
        super().__init__()
        # Where the IR has no names left, its order is the network's: conv1, then conv1 and conv2 of each layer.
        weights = [c for name, c in constants.items() if name.startswith("Mul_") and name.endswith("_copy")]
        noises = [c for name, c in constants.items() if name.isdigit() and _is_noise(c)]
        self.input = nn.Parameter(constants["m.input.input"])  # [1,512,4,4]
        self.conv1 = _StyledConv(constants, "m.conv1", weights[0], noises[0], upsampled=True)
        self.layers = nn.ModuleList(
            _Layer(constants, i, weights[2 * i + 1 : 2 * i + 3], noises[2 * i + 1 : 2 * i + 3]) for i in range(LAYERS)
        )
        head = f"m.layers.{LAYERS - 1}.to_img"
        self.to_image = _ToImage(constants, constants[f"{head}.conv.weight"], constants[f"{head}.bias"])

    def hidden(self, w: Tensor) -> Iterator[Tensor]:
        """Yield the features after each layer: 8x8 first, then doubling."""
        x = self.conv1(self.input.expand(len(w), -1, -1, -1), w[:, 0])
        for i, layer in enumerate(self.layers):
            x = layer(x, w[:, 3 * i + 1], w[:, 3 * i + 2])
            yield x

    def forward(self, w: Tensor) -> Tensor:
        """[N,23,512] -> the full picture [N,3,1024,1024]."""
        *_, x = self.hidden(w)
        image: Tensor = self.to_image(x, w[:, 3 * LAYERS])
        return image


def _is_noise(constant: Tensor) -> bool:
    return constant.ndim == 4 and constant.shape[:2] == (1, 1) and constant.shape[2] == constant.shape[3] >= 4


def load_networks(store: WeightStore) -> tuple[Mapping, Synthesis]:
    """Both networks from the package's files, in fp32 on the CPU, frozen.

    Raises:
        WeightsError: a file can't be had, or is not what it should be.
    """
    constants = {
        part: {
            name: torch.from_numpy(value.copy())
            for name, value in read_constants(
                store.path(f"mobilestylegan-{part}.xml"), store.path(f"mobilestylegan-{part}.bin")
            )
        }
        for part in ("mapping", "synthesis")
    }
    mapping = Mapping(list(constants["mapping"].values()))
    synthesis = Synthesis(constants["synthesis"])
    return mapping.requires_grad_(False).eval(), synthesis.requires_grad_(False).eval()


def live_slots() -> tuple[int, ...]:
    """The slots that change the picture."""
    return (0, *(3 * i + k for i in range(LAYERS) for k in (1, 2)), 3 * LAYERS)


def layer_of(size: int) -> int:
    """The layer whose features make a picture of `size`."""
    return int(math.log2(size)) - 4


class _CoarseLayer(nn.Module):
    """A layer run at its input's resolution: [N,C,H,W] -> [N,O,H,W], in the mean what it makes at [2H,2W].

    Starts as the layer itself on smooth features: of the Haar transform only the low-pass part, of a depthwise
    kernel only its sum, no noise. Training makes up for the rest.
    """

    def __init__(self, layer: _Layer) -> None:
        super().__init__()
        self.up = copy.deepcopy(layer.up)
        self.conv1 = copy.deepcopy(layer.conv1)
        self.conv2 = copy.deepcopy(layer.conv2)
        channels = len(self.up.bias)
        self.low_pass = nn.Parameter(0.5 * torch.eye(channels // 4, channels)[:, :, None, None])  # [C/4,C,1,1]
        for conv in (self.conv1, self.conv2):
            assert conv.depthwise is not None  # every layer's convolutions have one; only the 4x4 one has none
            total = conv.depthwise.sum((2, 3), keepdim=True)
            conv.depthwise = nn.Parameter(F.pad(total, (1, 1, 1, 1)))
            conv.noise = nn.Parameter(torch.zeros(1, 1, 1, 1))

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        x, _, low_pass = _modulated(x, self.up(w1), None, self.low_pass)
        x = F.conv2d(x, low_pass)
        return self.conv2(self.conv1(x, w1), w2)  # type: ignore[no-any-return]  # a module's call is untyped


class ImageHead(nn.Module):
    """Early exit: the features at [N,C,S/2,S/2] -> the picture that the whole network would make, at [N,3,S,S].

    The rest of the network, run coarsely at the features' own resolution, and a modulated linear readout of
    the features for the detail. Trained by tools/train_heads.py.
    """

    def __init__(self, synthesis: Synthesis, size: int) -> None:
        super().__init__()
        self.first = layer_of(size) + 1
        layers = cast("list[_Layer]", list(synthesis.layers))
        self.layers = nn.ModuleList(_CoarseLayer(layer) for layer in layers[self.first :])
        self.to_image = copy.deepcopy(synthesis.to_image)
        channels = layers[layer_of(size)].conv2.weight.shape[0]
        self.slots = tuple(s for s in live_slots() if s >= 3 * self.first)
        self.style = nn.Linear(512 * len(self.slots), channels)
        nn.init.zeros_(self.style.weight)  # starts unmodulated
        nn.init.ones_(self.style.bias)
        self.skip = nn.Conv2d(channels, 12, 1)
        self.requires_grad_(True)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """`x`: features [N,C,S/2,S/2]; `w` [N,L,512]."""
        return haar_upsample(self.coarse(x, w) + self.detail(x, w))

    def coarse(self, x: Tensor, w: Tensor) -> Tensor:
        """The rest of the network: the picture's Haar transform [N,12,S/2,S/2]."""
        for i, layer in enumerate(self.layers):
            slot = 3 * (self.first + i)
            x = layer(x, w[:, slot + 1], w[:, slot + 2])
        return self.to_image.transform(x, w[:, 3 * LAYERS])

    def detail(self, x: Tensor, w: Tensor) -> Tensor:
        """What the linear readout adds."""
        style = self.style(w[:, self.slots].flatten(1) / math.sqrt(512 * len(self.slots)))
        x, _, weight = _modulated(x, style[:, :, None, None], None, self.skip.weight)
        return F.conv2d(x, weight, self.skip.bias)


class MobileGenerator:
    """The `Generator` of this file: see `reenact.generators.Generator`."""

    name = "mobile"
    num_layers = SLOTS
    live_layers = live_slots()
    sizes: tuple[int, ...] = (*EXITS, NATIVE_SIZE)
    exits: tuple[int, ...] = EXITS
    noises: tuple[str, ...] = ("const",)  # it ships as a constant, times its strength
    noise = "const"
    # 8x8 to 64x64: mouth and cheeks at the low end, lids and brows at 32x32 and above.
    expression_layers: tuple[int, ...] = (1, 2, 4, 5, 7, 8, 10, 11)
    # The paper's 4 and 5, counted from 1 on StyleGAN, are the second convolution at 8x8 and the first at 16x16.
    paper_layers: tuple[int, ...] = (2, 4)

    def __init__(
        self,
        mapping: Mapping,
        synthesis: Synthesis,
        trained: dict[str, Tensor],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.mapping = mapping.to(device)
        self.synthesis = channels_last(synthesis, device).to(dtype)
        heads = nn.ModuleDict({str(size): ImageHead(synthesis, size) for size in EXITS})
        heads.load_state_dict({k.removeprefix("heads."): v for k, v in trained.items() if k.startswith("heads.")})
        self.heads = channels_last(heads.requires_grad_(False).eval(), device).to(dtype)
        self._dtype = dtype
        self.mean_latent = trained["mean"].to(device).repeat(SLOTS, 1)  # [L,512]
        # Zero, which no mapping ever gave it, draws a brown plane; from there 1,000 of the paper's steps lead to bark.
        self.origin = self.mean_latent
        self.covariance = trained["covariance"].to(device)

    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """[N,L,512] -> [N,3,size,size], RGB, about [-1,1].

        Raises:
            ValueError: it makes no pictures of that size.
        """
        if size not in self.sizes:
            raise ValueError(f"size {size}: {self.name} makes pictures of {', '.join(map(str, self.sizes))}")
        w = w.to(self._dtype)
        if size == NATIVE_SIZE:
            return self.synthesis(w).float()  # type: ignore[no-any-return]  # a module's call is untyped
        features = next(islice(self.synthesis.hidden(w), layer_of(size), None))
        return self.heads[str(size)](features, w).float()  # type: ignore[no-any-return]  # the same

    def map(self, z: Tensor) -> Tensor:
        """[N,512] normal noise -> [N,512] W."""
        return self.mapping(z)  # type: ignore[no-any-return]  # the same

    def copied(self) -> MobileGenerator:
        """The same, with weights of its own."""
        twin = copy.copy(self)
        twin.synthesis, twin.heads = copy.deepcopy(self.synthesis), copy.deepcopy(self.heads)
        return twin

    def weights(self) -> dict[str, Tensor]:
        """What its pictures are drawn with, by name."""
        parts = nn.ModuleDict({"synthesis": self.synthesis, "heads": self.heads})
        return dict(parts.named_parameters())

    def noise_maps(self) -> dict[str, float]:
        """Its maps of noise, which come times their strength."""
        return {name: 1.0 for name in self.weights() if name.startswith("synthesis.") and name.endswith(".noise")}

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """The live slots whose convolutions work at `resolution` (4, 8, ..., 512)."""
        if resolution == 4:
            return (0,)
        first = 3 * (int(math.log2(resolution)) - 3) + 1
        return tuple(s for s in (first, first + 1) if s in self.live_layers)


def create(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> MobileGenerator:
    """The generator with its early exits, frozen, on `device`, computing in `dtype`.

    Raises:
        WeightsError: a weight file can't be had or read.
    """
    mapping, synthesis = load_networks(store)
    heads = {name: torch.from_numpy(array) for name, array in read_tensors(shipped("mobile_heads.safetensors")).items()}
    return MobileGenerator(mapping, synthesis, heads, device, dtype)
