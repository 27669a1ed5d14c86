"""Fusion: from the target's W+ and the driver's to one that has the target's person and the driver's expression.

The paper (section 3.4): s0 = a s1 + (1 - a) s2 with a 0-1 diagonal a over layers; its fixed answer takes layers 4
and 5, counted from 1, from the driver. Here `from_driver` is 1 where a slot comes from the driver.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import UsageError
from .expression import REGIONS
from .generators import Generator
from .types import Floats

MOTIONS = ("relative", "absolute")
FUSIONS = ("expression", "solve", "splice")
AUTO = "auto"
"""What `FuseOptions.layers` may be with "splice": the best for this target and this driver; see layers.py."""


@dataclass(frozen=True)
class FuseOptions:
    """How the expression gets into the target's latent."""

    # As learnt for the generator, else solved for; "solve": searched for in each clip; "splice": the paper's.
    method: str = "expression"
    layers: str = ""  # see `parse_layers`, or `AUTO`; empty: what suits the method
    motion: str = "relative"  # to an anchor frame, or "absolute"
    strength: float = 1.0
    regions: str = "all"  # which parts of the face follow, as "mouth,eyes" or "mouth=1.2,eyes"; not with "splice"


def chooses_layers(options: FuseOptions) -> bool:
    """Whether layers are to be chosen.

    Raises:
        UsageError: where none are taken from the driver.
    """
    if options.layers != AUTO:
        return False
    if options.method != "splice":
        why = f"--fuse {options.method} takes no layers from the driver"
        raise UsageError(f"--layers {AUTO}: {why}; add --fuse splice, or leave --layers out")
    return True


def parse_layers(text: str, generator: Generator) -> tuple[int, ...]:
    """Slots of W+ from a list or a preset ("paper", "expression").

    A list has slots and ranges of them as this generator counts them, from 0 ("2,4,7-9"); resolutions ("8x8,16x16"),
    whose convolutions' slots are meant; and layers by the paper's number, which counts StyleGAN1's from 1, two at each
    resolution ("p4,p5"): elsewhere the slot of the same convolution.

    Raises:
        UsageError: not such a list, or a slot that the generator lacks or that changes nothing.
    """
    presets = {"paper": generator.paper_layers, "expression": generator.expression_layers}
    if text in presets:
        return presets[text]
    slots: set[int] = set()
    for part in text.split(","):
        found = _slots(part.strip(), generator)
        if found is None:
            known = f"2,4,7-9 or 8x8,16x16 or p4,p5 or one of: {', '.join((*presets, AUTO))}"
            raise UsageError(f"--layers {text!r}: {part!r} is no slot; write {known}")
        if not found or found[-1] >= generator.num_layers:
            known = f"{generator.name}; it has 0 to {generator.num_layers - 1}"
            raise UsageError(f"--layers {text!r}: {part!r} is no slot of {known}")
        slots |= set(found)
    dead = sorted(slots - set(generator.live_layers))
    if dead == sorted(slots):
        live = ", ".join(map(str, generator.live_layers))
        raise UsageError(f"--layers {text!r}: those slots of {generator.name} change nothing; the live ones are {live}")
    return tuple(sorted(slots - set(dead)))


def _slots(part: str, generator: Generator) -> tuple[int, ...] | None:
    """The slots that a part of a list of layers means; empty: none that there is; None: it means nothing."""
    if match := re.fullmatch(r"(\d+)(?:\s*-\s*(\d+))?", part):
        first, last = int(match[1]), int(match[2] or match[1])
        return tuple(range(first, min(last, first + generator.num_layers) + 1))
    if match := re.fullmatch(r"(\d+)x\1", part):
        return _layers_at(int(match[1]), generator)
    if match := re.fullmatch(r"p([1-9]\d?)", part):
        pair, which = divmod(int(match[1]) - 1, 2)
        there = _layers_at(4 << pair, generator)
        return there[which : which + 1] if len(there) > 1 else there  # at 4x4 one convolution may stand for both
    return None


def _layers_at(side: int, generator: Generator) -> tuple[int, ...]:
    """The slots that work at side x side; empty where the generator has no such features."""
    known = [4 << n for n in range(9) if 4 << n <= generator.sizes[-1]]
    return generator.layers_at(side) if side in known else ()


def parse_regions(text: str) -> dict[str, float]:
    """Region -> its share of the strength, from a list of regions with or without one ("mouth=1.2,eyes"); others: 0.

    The last word on a region counts: "all=0.5,mouth".

    Raises:
        UsageError: no such region, or a share that is no number.
    """
    shares = dict.fromkeys(REGIONS, 0.0)
    for part in text.split(","):
        name, given, number = (word.strip() for word in part.partition("="))
        if name not in (*REGIONS, "all"):
            known = ", ".join((*REGIONS, "all"))
            raise UsageError(f"--regions {text!r}: {name!r} is no region; write some of: {known}, as in mouth=1.2,eyes")
        try:
            share = float(number) if given else 1.0
        except ValueError:
            share = math.nan
        if not math.isfinite(share):
            raise UsageError(f"--regions {text!r}: {number!r} is not a number")
        shares |= dict.fromkeys(REGIONS if name == "all" else [name], share)
    return shares


def from_driver(layers: tuple[int, ...], num_layers: int) -> NDArray[np.float32]:
    """The paper's alpha': [L,1], 1 where a slot comes from the driver."""
    chosen = np.zeros((num_layers, 1), np.float32)
    chosen[list(layers)] = 1
    return chosen


def splice(
    target: Floats, driver: Floats, chosen: NDArray[np.float32], anchor: Floats | None = None, strength: float = 1.0
) -> Floats:
    """The target's latent [L,512] with the chosen slots of the driver's, or moved by their change.

    Args:
        target: the person.
        driver: this frame.
        chosen: [L,1], from `from_driver`.
        anchor: the driver's latent in the anchor frame: then its change since is added (relative motion); None: the
            driver's slots replace the target's (absolute, the paper's).
        strength: 1 is all of it.
    """
    change = driver - (target if anchor is None else anchor)
    return (target + strength * chosen * change).astype(np.float32)
