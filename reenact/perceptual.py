"""Perceptual distances on the features of VGG-16 and AlexNet.

The networks are those of ST-LPIPS (Ghildyal & Liu, "Shift-tolerant Perceptual Similarity Metric", ECCV
2022): ImageNet networks whose pooling is anti-aliased (Zhang, "Making Convolutional Networks
Shift-Invariant Again", ICML 2019), with linear heads fitted to human judgement. Pictures are RGB NCHW
in [-1,1].
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import UsageError, WeightsError
from .weights import WeightStore

_UNREADABLE = (RuntimeError, KeyError, ValueError, TypeError, EOFError, OSError, pickle.UnpicklingError)

M = TypeVar("M", bound=nn.Module)
N = TypeVar("N", bound="Network")

VGG_PLAN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LPIPS_CONVS = (2, 4, 7, 10, 13)
"""The convolutions of VGG-16, counted from 1, whose rectified outputs ST-LPIPS compares: the last of each block."""


def channels_last(module: M, device: torch.device, dtype: torch.dtype | None = None) -> M:
    """The module on `device`, its weights laid out as convolutions are fastest; `dtype` None: as it is."""
    return module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack this overload


def _halved(x: Tensor) -> Tensor:
    """Blurred by [1,2,1]/4 and every second place taken: [N,C,H,W] -> [N,C,ceil((H+2)/2),ceil((W+2)/2)]."""
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, stride=2, groups=x.shape[1])


def _soft_pool(x: Tensor, window: int) -> Tensor:
    """Anti-aliased max pooling by 2."""
    return _halved(F.max_pool2d(x, window, stride=1))


class Network(nn.Module):
    """Convolutions and ST-LPIPS's linear heads; a subclass says which, and what lies between them."""

    compared: tuple[int, ...]
    """The convolutions, counted from 1, whose rectified outputs ST-LPIPS compares."""

    def __init__(self, convs: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        widths = [convs[number - 1].out_channels for number in self.compared]
        self.heads = nn.ParameterList([torch.zeros(1, width, 1, 1) for width in widths])
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.register_buffer("scale", torch.ones(1, 3, 1, 1))

    def features(self, images: Tensor, convs: Sequence[int]) -> list[Tensor]:
        """Rectified outputs of the convolutions named, counted from 1, each [N,C,H',W'].

        `images` [N,3,H,W] in [-1,1]. Runs no further than the last one asked for; in the dtype of the weights.
        """
        x = ((images - self.shift) / self.scale).to(next(self.convs.parameters()).dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        found = []
        for number in range(1, max(convs) + 1):
            x = self._step(x, number)
            if number in convs:
                found.append(x)
        return found

    def _step(self, x: Tensor, number: int) -> Tensor:
        """From one convolution's rectified output (or the picture) to that of convolution `number`."""
        raise NotImplementedError


class Vgg16(Network):
    """VGG-16 (Simonyan & Zisserman, 2015)."""

    compared = LPIPS_CONVS

    def __init__(self) -> None:
        widths = [3, *(c for block in VGG_PLAN for c in block)]
        super().__init__([nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths)])

    def _step(self, x: Tensor, number: int) -> Tensor:
        if number - 1 in LPIPS_CONVS:  # the last of a block
            x = _soft_pool(x, 2)
        return F.relu(self.convs[number - 1](x))


class PlainVgg16(Vgg16):
    """VGG-16 as it was published and as torchvision has it, its pooling not anti-aliased."""

    def __init__(self) -> None:
        super().__init__()
        mean, spread = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 1, 3, 1, 1)
        self.shift, self.scale = 2 * mean - 1, 2 * spread  # ImageNet's, for pictures in [-1,1]

    def _step(self, x: Tensor, number: int) -> Tensor:
        if number - 1 in LPIPS_CONVS:
            x = F.max_pool2d(x, 2)
        return F.relu(self.convs[number - 1](x))


class AlexNet(Network):
    """AlexNet (Krizhevsky et al., 2012), its first convolution at every pixel and halved after."""

    compared = (1, 2, 3, 4, 5)

    def __init__(self) -> None:
        plan = ((3, 64, 11, 2), (64, 192, 5, 2), (192, 384, 3, 1), (384, 256, 3, 1), (256, 256, 3, 1))
        super().__init__([nn.Conv2d(i, o, size, padding=pad) for i, o, size, pad in plan])

    def _step(self, x: Tensor, number: int) -> Tensor:
        if number in (2, 3):
            x = _soft_pool(x, 3)
        x = self.convs[number - 1](x)
        return F.relu(_halved(x) if number == 1 else x)


def load_vgg(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> Vgg16:
    """VGG-16 with its weights, frozen.

    Raises:
        WeightsError: the file can't be had or is not what it should be.
    """
    return _loaded(Vgg16(), store.path("stlpips-vgg.pth"), device, dtype)


FEATURES = ("auto", "packaged", "vgg16")
_TORCHVISION = "vgg16.pth"  # in weights.toml


def check_features(which: str, distance: str) -> None:
    """Refuse features that can't be had, or can't be compared so.

    Raises:
        UsageError: no such, no such file, or torchvision's for another distance than "conv".
    """
    if which not in FEATURES and not Path(which).is_file():
        known = ", ".join(FEATURES)
        raise UsageError(f"--perceptual {which}: no such file, and no such name; write a file's, or {known}")
    if which not in ("auto", "packaged") and distance != "conv":
        raise UsageError(
            f"--perceptual {which}: has no linear heads for the default distance; it goes with --preset paper"
        )


def load_features(
    which: str, distance: str, store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Vgg16, str]:
    """VGG-16, and whose it is: "packaged", torchvision's "vgg16" or a file of it, or, "auto", what suits `distance`.

    The paper's distance takes torchvision's where it was fetched; ST-LPIPS has heads for the packaged one alone.

    Raises:
        UsageError: see `check_features`.
        WeightsError: the file can't be had or is not what it should be.
    """
    check_features(which, distance)
    if which == "auto":
        fetched = distance == "conv" and store.verify(_TORCHVISION) is None
        which = "vgg16" if fetched else "packaged"
    if which == "packaged":
        return load_vgg(store, device, dtype), "ST-LPIPS's VGG-16, anti-aliased (packaged)"
    path = store.path(_TORCHVISION) if which == "vgg16" else Path(which)
    return _torchvision(path, device, dtype), f"torchvision's VGG-16 ({path})"


def _torchvision(path: Path, device: torch.device, dtype: torch.dtype) -> PlainVgg16:
    """The network with the convolutions of torchvision's file, whose others classify."""
    network = PlainVgg16()
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
        names = sorted({int(name.split(".")[1]) for name in raw if name.startswith("features.")})
        for conv, place in zip(network.convs, names, strict=True):
            conv.load_state_dict({key: raw[f"features.{place}.{key}"] for key in ("weight", "bias")})
    except _UNREADABLE as error:
        raise WeightsError(f"{path}: not torchvision's VGG-16 ({str(error)[:100]})") from error
    return channels_last(network.requires_grad_(False).eval(), device, dtype)


def load_alex(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> AlexNet:
    """AlexNet with its weights, frozen.

    Raises:
        WeightsError: the file can't be had or is not what it should be.
    """
    return _loaded(AlexNet(), store.path("stlpips-alex.pth"), device, dtype)


def _loaded(network: N, path: Path, device: torch.device, dtype: torch.dtype) -> N:
    """The network with the weights of one of ST-LPIPS's files."""
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
        names = [name for name in raw if name.startswith("net.") and name.endswith("weight")]
        names.sort(key=lambda name: int(name.split(".")[2]))
        state = {f"convs.{i}.weight": raw[k] for i, k in enumerate(names)}
        state |= {f"convs.{i}.bias": raw[k.replace("weight", "bias")] for i, k in enumerate(names)}
        state |= {f"heads.{i}": raw[f"lin{i}.model.1.weight"] for i in range(len(network.heads))}
        state |= {"shift": raw["scaling_layer.shift"], "scale": raw["scaling_layer.scale"]}
        network.load_state_dict(state)
    except _UNREADABLE as error:
        raise WeightsError(f"{path}: not the ST-LPIPS file that was expected; delete it to fetch it anew") from error
    return channels_last(network.requires_grad_(False).eval(), device, dtype)


def unit_channels(x: Tensor) -> Tensor:
    """Features scaled to length 1 at every place."""
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()


def lpips_features(network: Network, images: Tensor, convs: Sequence[int] | None = None) -> list[Tensor]:
    """What `lpips_distance` compares: unit features times the root of their heads' weights, float32.

    `convs` are some of `network.compared`; None: all of them, which is ST-LPIPS.
    """
    # The heads' weights are non-negative, so their roots can go into the features, once.
    convs = network.compared if convs is None else convs
    found = network.features(images, convs)
    return [
        unit_channels(x.float()) * network.heads[network.compared.index(c)].float().clamp(min=0).sqrt()
        for x, c in zip(found, convs, strict=True)
    ]


def lpips_distance(a: Sequence[Tensor], b: Sequence[Tensor], weight: Tensor | None = None) -> Tensor:
    """ST-LPIPS of two pictures' `lpips_features`: [N].

    The squared difference summed over channels, averaged over the picture, summed over layers. `weight`
    [N or 1,1,H,W] says where it counts; its mean over the picture need not be 1.
    """
    total = torch.zeros(len(a[0]), device=a[0].device)
    for x, y in zip(a, b, strict=True):
        error = (x - y).square().sum(1, keepdim=True)  # [N,1,H,W]
        if weight is None:
            total = total + error.mean((1, 2, 3))
        else:
            here = F.interpolate(weight, error.shape[2:], mode="area")
            total = total + (error * here).sum((1, 2, 3)) / here.sum((1, 2, 3)).clamp(min=1e-6)
    return total
