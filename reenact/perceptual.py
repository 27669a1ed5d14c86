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
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import WeightsError
from .weights import WeightStore

M = TypeVar("M", bound=nn.Module)

VGG_PLAN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LPIPS_CONVS = (2, 4, 7, 10, 13)
"""The convolutions, counted from 1, whose rectified outputs ST-LPIPS compares."""


def channels_last(module: M, device: torch.device, dtype: torch.dtype | None = None) -> M:
    """The module on `device`, its weights laid out as convolutions are fastest; `dtype` None: as it is."""
    return module.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stubs lack this overload


def _soft_pool(x: Tensor) -> Tensor:
    """Anti-aliased max pooling by 2: [N,C,H,W] -> [N,C,H//2+1,W//2+1]."""
    x = F.pad(F.max_pool2d(x, 2, stride=1), (2, 2, 2, 2), mode="reflect")
    line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(line, line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, stride=2, groups=x.shape[1])


class Vgg16(nn.Module):
    """VGG-16's convolutions and ST-LPIPS's linear heads."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *(c for block in VGG_PLAN for c in block)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths))
        self.heads = nn.ParameterList([torch.zeros(1, block[-1], 1, 1) for block in VGG_PLAN])
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
        pools = [sum(len(block) for block in VGG_PLAN[:i]) for i in range(1, len(VGG_PLAN))]
        found = []
        for index, conv in enumerate(self.convs[: max(convs)]):
            if index in pools:
                x = _soft_pool(x)
            x = F.relu(conv(x))
            if index + 1 in convs:
                found.append(x)
        return found


def load_vgg(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> Vgg16:
    """The network with its weights, frozen.

    Raises:
        WeightsError: the file can't be had or is not what it should be.
    """
    path = store.path("stlpips-vgg.pth")
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
        names = [name for name in raw if name.startswith("net.") and name.endswith("weight")]
        names.sort(key=lambda name: int(name.split(".")[2]))
        network = Vgg16()
        state = {f"convs.{i}.weight": raw[k] for i, k in enumerate(names)}
        state |= {f"convs.{i}.bias": raw[k.replace("weight", "bias")] for i, k in enumerate(names)}
        state |= {f"heads.{i}": raw[f"lin{i}.model.1.weight"] for i in range(len(VGG_PLAN))}
        state |= {"shift": raw["scaling_layer.shift"], "scale": raw["scaling_layer.scale"]}
        network.load_state_dict(state)
    except (RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: not the ST-LPIPS file that was expected; delete it to fetch it anew") from error
    return channels_last(network.requires_grad_(False).eval(), device, dtype)


def unit_channels(x: Tensor) -> Tensor:
    """Features scaled to length 1 at every place."""
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()


def lpips_features(network: Vgg16, images: Tensor, convs: Sequence[int] = LPIPS_CONVS) -> list[Tensor]:
    """What `lpips_distance` compares: unit features times the root of their heads' weights, float32."""
    # The heads' weights are non-negative, so their roots can go into the features, once.
    found = network.features(images, convs)
    return [
        unit_channels(x.float()) * network.heads[LPIPS_CONVS.index(c)].float().clamp(min=0).sqrt()
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
