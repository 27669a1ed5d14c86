"""Style-based face generators, one file each; the file's name is its name on the command line.

Each module has

    create(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> Generator

`dtype` is what it computes in; latents and pictures are float32 whatever it is. Those that run networks of a user's own
have build(checkpoint: Checkpoint, device, dtype) -> Generator too, and are called as `Checkpoint.kind` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from .. import checkpoints, formats, plugins
from ..errors import UsageError
from ..weights import WeightStore

if TYPE_CHECKING:
    from typing import Self


class Generator(Protocol):
    """A synthesis network with its W+ opened up. Pictures are RGB NCHW, about [-1,1]."""

    name: str
    num_layers: int  # L, the slots of W+
    live_layers: tuple[int, ...]  # the slots that change the picture
    sizes: tuple[int, ...]  # the picture sizes it can make, ascending; the last is its own
    exits: tuple[int, ...]  # those of them that cost less than the whole picture
    noises: tuple[str, ...]  # what `noise` may be
    noise: str  # "const": the same each time; "none"; "random"
    mean_latent: Tensor  # float32 [L,512]: mean of W in every slot
    origin: Tensor  # float32 [L,512]: where the paper's search begins: zero, or the mean where zero draws no face
    covariance: Tensor  # float32 [512,512]: covariance of W
    expression_layers: tuple[int, ...]  # what a fusion of expressions may move
    paper_layers: tuple[int, ...]  # the slots that stand for the paper's layers 4 and 5

    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """[N,L,512] -> [N,3,size,size]; differentiable; `size` one of `sizes`; several threads may call it."""
        ...

    def map(self, z: Tensor) -> Tensor:
        """[N,512] normal noise -> [N,512] W."""
        ...

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """The slots whose convolutions work at `resolution`."""
        ...

    def copied(self) -> Self:
        """The same, with weights of its own."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """What its pictures are drawn with, by name; leaves that a gradient may be asked for, frozen until then."""
        ...

    def noise_maps(self) -> dict[str, float]:
        """Which weights are maps of noise that it draws with [...,R,R], and what a unit of one adds to features."""
        ...


def load(
    name: str,
    store: WeightStore,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    noise: str = "const",
) -> Generator:
    """A generator by its name, or the one in a file: see `formats.read` for which files.

    Raises:
        UsageError: there is none of that name, or none with that noise.
        WeightsError: its file can't be had or read.
    """
    if check_name(name) is None:
        generator: Generator = plugins.module("generators", name).create(store, device, dtype)
    else:
        checkpoint = formats.read(Path(name))
        generator = plugins.module("generators", checkpoint.kind).build(checkpoint, device, dtype)
    if noise not in generator.noises:
        known = ", ".join(generator.noises)
        raise UsageError(f"--noise {noise}: {generator.name} has no such; choose from {known}")
    generator.noise = noise
    return generator


def check_name(name: str) -> Path | None:
    """The file that is meant, or None where it is a generator's name.

    Raises:
        UsageError: it is neither.
    """
    known = plugins.names("generators")
    if name in known:
        return None
    if not Path(name).is_file():
        raise UsageError(f"--generator {name}: no such file, and no such name; write a file's, or {', '.join(known)}")
    return Path(name)


def describe(generator: Generator) -> str:
    """What draws, in a line: its name, its sizes, and which of them are had early."""
    early = ", ".join(map(str, generator.exits)) or "none"
    return f"generator: {generator.name}, {generator.sizes[-1]} pixels, early exits: {early}"


class _Measured(Protocol):
    def measured(self) -> checkpoints.Checkpoint: ...


def convert(source: Path, out: Path) -> checkpoints.Checkpoint:
    """Write a user's generator as safetensors, with what loading would have to measure; returns what was written.

    Raises:
        WeightsError: it can't be read or written.
    """
    checkpoint = checkpoints.with_hash(formats.read(source), source)
    generator = plugins.module("generators", checkpoint.kind).build(checkpoint, torch.device("cpu"))
    whole = cast(_Measured, generator).measured()
    checkpoints.save(whole, out)
    return whole
