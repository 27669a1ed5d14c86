"""The numbers of a StyleGAN 1 or 2, in one layout whatever file they came from, and our own files of them.

The layout is that of StyleGAN2-ADA's state (Karras et al., 2020), for both kinds:

    mapping.fc{i}.{weight [out,in], bias}, mapping.w_avg
    synthesis.b4.const [C,4,4]
    synthesis.b{r}.conv{0,1}.{weight [out,in,3,3], bias, noise_strength, noise_const [r,r], affine.{weight,bias}}
    synthesis.b{r}.torgb.{weight [3,in,1,1], bias, affine.{weight,bias}}      StyleGAN2
    synthesis.torgb.{weight,bias}                                             StyleGAN1

At 4x4 StyleGAN1 has a `conv0` without weight, the constant's own epilogue, and StyleGAN2 has none. Weights are as they
were trained, without the constants of the equalised learning rate, which generators/ applies.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import WeightsError

SMALLEST, LARGEST = 64, 1024  # pixels of a generator's own picture
W = 512  # numbers in a style; both Z and W
MOST_CHANNELS = 1024
_HEADER = "reenact"  # the key of our own safetensors' metadata
_OPTIONAL = re.compile(r"mapping\.w_(avg|covariance)|synthesis\..*\.noise_const|exits\.\d+")
"""What a file may lack: it is then measured or drawn."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One generator's numbers."""

    kind: str  # "stylegan1" or "stylegan2": the plug-in that runs it
    tensors: dict[str, Tensor]  # float32, named as above
    mapping_rate: float = 0.01  # the mapping's learning rate multiplier
    clamp: float | None = None  # StyleGAN2: what activations are held to
    half_from: int = 0  # StyleGAN2: the resolution from which it was trained in half precision; 0: none
    fused_from: int = 128  # StyleGAN1: the resolution from which upsampling is fused with the convolution
    exits: tuple[int, ...] | None = None  # picture sizes whose early exits were found good; None: not looked at yet
    source: dict[str, str] = field(default_factory=dict)  # file, format, sha256: where it came from

    @property
    def resolution(self) -> int:
        """Pixels of its own picture."""
        return _resolutions(self.tensors)[-1]

    @property
    def channels(self) -> dict[int, int]:
        """Channels at each resolution."""
        return {r: len(self.tensors[f"synthesis.b{r}.conv1.weight"]) for r in _resolutions(self.tensors)}


class UnfitError(Exception):
    """Why a file's content is no generator that can be used."""


def with_hash(checkpoint: Checkpoint, path: Path) -> Checkpoint:
    """The same, its source's sha256 noted."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return replace(checkpoint, source={**checkpoint.source, "sha256": digest.hexdigest()})


# --- Our own files ------------------------------------------------------------------------------


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a safetensors file that `load` knows; an earlier one of that name stays until it is whole.

    Raises:
        WeightsError: it can't be written there.
    """
    about = {name: getattr(checkpoint, name) for name in _ABOUT}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        save_file(checkpoint.tensors, partial, {_HEADER: json.dumps(about)})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: can't be written ({error})") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


_ABOUT = ("kind", "mapping_rate", "clamp", "half_from", "fused_from", "exits", "source")


def is_safetensors(head: bytes) -> bool:
    """Whether a file that starts so is of that format."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27


def load(path: Path) -> Checkpoint:
    """What `save` wrote."""
    with safe_open(path, "pt") as file:
        header = (file.metadata() or {}).get(_HEADER)
        if header is None:
            raise UnfitError("is not one of the safetensors files that `reenact weights convert` writes")
        about = json.loads(header)
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # it is no dictionary
    exits, clamp = about["exits"], about["clamp"]
    return Checkpoint(
        about["kind"], tensors, float(about["mapping_rate"]), clamp and float(clamp), int(about["half_from"]),
        int(about["fused_from"]), None if exits is None else tuple(map(int, exits)), dict(about["source"]),
    )  # fmt: skip


# --- What it should hold ------------------------------------------------------------------------


def layout(kind: str, channels: Mapping[int, int], mapping_layers: int = 8) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a generator's numbers, `channels` by resolution."""
    shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (W,), "synthesis.b4.const": (channels[4], 4, 4)}
    for i in range(mapping_layers):
        shapes |= {f"mapping.fc{i}.weight": (W, W), f"mapping.fc{i}.bias": (W,)}
    for r, out in channels.items():
        for i, into in enumerate((channels.get(r // 2), out)):
            name = f"synthesis.b{r}.conv{i}"
            if into is not None:
                shapes[f"{name}.weight"] = (out, into, 3, 3)
            elif kind == "stylegan2":
                continue
            style = 2 * out if kind == "stylegan1" else into or 0
            shapes |= {
                f"{name}.bias": (out,),
                f"{name}.noise_strength": (out,) if kind == "stylegan1" else (),
                f"{name}.noise_const": (r, r),
                f"{name}.affine.weight": (style, W),
                f"{name}.affine.bias": (style,),
            }
        if kind == "stylegan2":
            name = f"synthesis.b{r}.torgb"
            shapes |= {f"{name}.weight": (3, out, 1, 1), f"{name}.bias": (3,)}
            shapes |= {f"{name}.affine.weight": (out, W), f"{name}.affine.bias": (out,)}
    if kind == "stylegan1":
        last = channels[max(channels)]
        shapes |= {"synthesis.torgb.weight": (3, last, 1, 1), "synthesis.torgb.bias": (3,)}
    return shapes


def _measured(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The names and shapes of what a generator measures of itself: W's covariance, and linear readouts."""
    channels = checkpoint.channels if checkpoint.kind == "stylegan1" else dict.fromkeys(checkpoint.channels, 3)
    return {"mapping.w_covariance": (W, W), **{f"exits.{r}": (c + 1, 3) for r, c in channels.items()}}


def _resolutions(tensors: Mapping[str, Any]) -> list[int]:
    found = (re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", name) for name in tensors)
    return sorted(int(match[1]) for match in found if match)


def checked(checkpoint: Checkpoint, declared: int | None = None) -> Checkpoint:
    """The checkpoint, if all its numbers are there and fit each other.

    Args:
        checkpoint: what was read.
        declared: the resolution that the file itself tells, if it does.
    """
    tensors, known = checkpoint.tensors, _resolutions(checkpoint.tensors)
    if checkpoint.kind not in ("stylegan1", "stylegan2"):
        raise UnfitError(f"holds a {checkpoint.kind!r}; known are stylegan1 and stylegan2")
    size = known[-1] if known else 0
    if declared is not None and declared != size:
        raise UnfitError(f"says that it makes pictures of {declared}x{declared}, but its layers make {size}x{size}")
    if not SMALLEST <= size <= LARGEST or size & (size - 1):
        raise UnfitError(f"makes pictures of {size}x{size}; known are powers of 2 from {SMALLEST} to {LARGEST}")
    if gaps := [r for r in (4 << i for i in range(9)) if r < size and r not in known]:
        raise UnfitError(f"lacks synthesis.b{gaps[0]}.conv1.weight")
    if max(checkpoint.channels.values()) > MOST_CHANNELS:
        raise UnfitError(f"has layers of more than {MOST_CHANNELS} channels")
    count = sum(1 for name in tensors if re.fullmatch(r"mapping\.fc\d+\.weight", name))
    wanted = {**layout(checkpoint.kind, checkpoint.channels, count), **_measured(checkpoint)}
    if missing := [s for s in checkpoint.exits or () if f"exits.{s}" not in tensors]:
        raise UnfitError(f"lacks exits.{missing[0]}")
    for name, shape in wanted.items():
        if name not in tensors:
            if not _OPTIONAL.fullmatch(name):
                raise UnfitError(f"lacks {name}")
        elif tuple(tensors[name].shape) != shape:
            raise UnfitError(f"has {name} of the shape {list(tensors[name].shape)}; {list(shape)} would fit the rest")
        elif not bool(tensors[name].isfinite().all()):
            raise UnfitError(f"has numbers in {name} that are not finite")
    extra = [name for name in tensors if name not in wanted and not _OPTIONAL.fullmatch(name)]
    if not count or extra:
        raise UnfitError(f"has {extra[0]}, which is not known here" if extra else "lacks the mapping network")
    return checkpoint
