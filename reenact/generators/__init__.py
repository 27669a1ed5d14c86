"""Style-based face generators, one file each; the file's name is its name on the command line.

Each module has

    create(store: WeightStore, device: torch.device, dtype: torch.dtype = torch.float32) -> Generator

`dtype` is what it computes in; latents and pictures are float32 whatever it is.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Generator(Protocol):
    """A synthesis network with its W+ opened up. Pictures are RGB NCHW, about [-1,1]."""

    name: str
    num_layers: int  # L, the slots of W+
    live_layers: tuple[int, ...]  # the slots that change the picture
    sizes: tuple[int, ...]  # the picture sizes it can make, ascending; the last is its own
    mean_latent: Tensor  # float32 [L,512]: mean of W in every slot
    covariance: Tensor  # float32 [512,512]: covariance of W
    expression_layers: tuple[int, ...]  # what a fusion of expressions may move
    paper_layers: tuple[int, ...]  # the slots that stand for the paper's layers 4 and 5

    def synthesize(self, w: Tensor, size: int) -> Tensor:
        """[N,L,512] -> [N,3,size,size]; differentiable; `size` one of `sizes`."""
        ...

    def map(self, z: Tensor) -> Tensor:
        """[N,512] normal noise -> [N,512] W."""
        ...

    def layers_at(self, resolution: int) -> tuple[int, ...]:
        """The slots whose convolutions work at `resolution`."""
        ...
