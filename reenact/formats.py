"""The generators that users bring: which network a file holds, told by its content.

NVIDIA's TensorFlow pickles, the pickles of its torch repositories, rosinality's StyleGAN2, and the torch conversion of
StyleGAN1 are brought into the layout of checkpoints.py. What a network's settings say that would need other arithmetic
than generators/ has is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from . import unpickle
from .checkpoints import LARGEST, Checkpoint, UnfitError, W, checked, is_safetensors, load
from .errors import WeightsError

_Value = unpickle.Array | unpickle.LazyTensor | float
_Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class _Recipe:
    """How to make a checkpoint of what was read; nothing is computed yet."""

    format: str
    checkpoint: Checkpoint  # all but the tensors
    parts: dict[str, tuple[_Value, _Change]]
    resolution: int | None = None  # as the file says


def read(path: Path) -> Checkpoint:
    """The generator in a file, recognised by its content.

    NVIDIA's TensorFlow pickles (StyleGAN1, 2, 2-ADA), the pickles of StyleGAN2-ADA and StyleGAN3's repository (of its
    StyleGAN2), rosinality's .pt, the torch conversion of StyleGAN1, and what `save` writes. No code in it is run.

    Raises:
        WeightsError: it holds no such generator.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if is_safetensors(head):
            return checked(load(path))
        if head.lstrip()[:1] == b"<":
            raise UnfitError("is a web page, not a network; the server gave that instead: try again later")
        if not head:
            raise UnfitError("is empty")
        recipe = _recognised(unpickle.read(path))
        # A pickle can show the same numbers under many names; an honest one doesn't.
        if sum(math.prod(_shape_of(value)) for value, _ in recipe.parts.values()) > path.stat().st_size:
            raise UnfitError("claims more than it holds")
        tensors = {name: change(_as_tensor(value)).contiguous() for name, (value, change) in recipe.parts.items()}
        checkpoint = replace(recipe.checkpoint, tensors=tensors, source={"file": path.name, "format": recipe.format})
        return checked(checkpoint, recipe.resolution)
    except (UnfitError, SafetensorError) as error:
        raise WeightsError(f"{path}: {error}") from error
    except (unpickle.ForbiddenError, LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: is damaged, or of a format that is not known here ({str(error)[:150]})") from error
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror or error})") from error


def _shape_of(value: _Value) -> tuple[int, ...]:
    if isinstance(value, unpickle.LazyTensor):
        return value.shape
    return value.value.shape if isinstance(value, unpickle.Array) else ()


def _as_tensor(value: _Value) -> Tensor:
    if isinstance(value, unpickle.LazyTensor):
        return value.load().float()
    return torch.from_numpy(np.array(value.value if isinstance(value, unpickle.Array) else value, np.float32))


def _same(x: Tensor) -> Tensor:
    return x


def _recognised(data: object) -> _Recipe:
    """Which of the formats it is."""
    if isinstance(data, tuple) and len(data) == 3 and isinstance(data[2], unpickle.Network):
        data = data[2]  # (G, D, Gs): the averaged one
    if isinstance(data, unpickle.Network):
        return _tensorflow(data)
    if isinstance(data, dict) and isinstance(data.get("G_ema"), unpickle.Record):
        data = data["G_ema"]
    if isinstance(data, unpickle.Record):
        return _persistent(data)
    if isinstance(data, dict):
        return _state_dict(data)
    raise UnfitError("holds no generator")


def _state_dict(data: dict[Any, Any]) -> _Recipe:
    """A dictionary of tensors, or of such dictionaries."""
    state, mean = data, data.get("latent_avg")
    if isinstance(data.get("g_ema"), dict):
        state = data["g_ema"]
    elif isinstance(data.get("g"), dict):
        raise UnfitError("holds no averaged generator (g_ema)")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, unpickle.LazyTensor)}
    if "g_synthesis.blocks.4x4.const" in tensors:
        return _lernapparat(tensors)
    if "conv1.conv.modulation.weight" in tensors:
        return _rosinality(tensors if mean is None else {**tensors, "latent_avg": mean})
    if (
        isinstance(data.get("d"), dict)
        or isinstance(data.get("D"), unpickle.Record)
        or "final_conv.0.weight" in tensors
    ):
        raise UnfitError("holds a discriminator and no generator")
    raise UnfitError("holds no generator that is known here")


def _require(told: Mapping[str, Any], plan: Mapping[str, object]) -> None:
    """Refuse settings of a network that would need other arithmetic; `plan` has the ones that are known."""
    for name, known in plan.items():
        value = told.get(name, known)
        if value != known and not (isinstance(value, list | tuple) and list(value) == known):
            raise UnfitError(f"is made with {name} = {str(value)[:40]}; known is {known}")


def _pick(tensors: Mapping[str, _Value], names: Mapping[str, tuple[str, _Change]]) -> dict[str, tuple[_Value, _Change]]:
    """Of `names`, our name -> (the file's name, what is to be done), those that are there."""
    return {ours: (tensors[theirs], change) for ours, (theirs, change) in names.items() if theirs in tensors}


def _sizes_in(tensors: Mapping[str, Any], pattern: str) -> list[int]:
    found = (re.fullmatch(pattern, name) for name in tensors)
    return sorted({int(match[1]) for match in found if match})


def _convs(kind: str, resolutions: list[int]) -> list[tuple[int, int]]:
    """(resolution, 0 or 1) of every convolution; the first at 4x4 is StyleGAN1's alone."""
    return [(r, i) for r in resolutions for i in (0, 1) if kind == "stylegan1" or (r, i) != (4, 0)]


# TensorFlow: kernels are [height, width, in, out], dense weights [in, out].


def _oihw(x: Tensor) -> Tensor:
    return x.permute(3, 2, 0, 1)


def _flipped_oihw(x: Tensor) -> Tensor:
    return _oihw(x.flip(0, 1))


def _transposed(x: Tensor) -> Tensor:
    return x.T


def _plus_one(x: Tensor) -> Tensor:
    return x + 1


def _first(x: Tensor) -> Tensor:
    return x[0]


def _map(x: Tensor) -> Tensor:
    return x[0, 0]


def _variables(network: unpickle.Network, prefix: str = "", depth: int = 0) -> dict[str, _Value]:
    state = network.state
    found: dict[str, _Value] = {
        prefix + name: value for name, value in state.get("variables", ()) if isinstance(value, unpickle.Array | float)
    }
    for name, part in state.get("components", {}).items():
        if isinstance(part, unpickle.Network) and depth < 4:
            found |= _variables(part, f"{prefix}{name}/", depth + 1)
    return found


def _tensorflow(network: unpickle.Network) -> _Recipe:
    """NVIDIA's pickles of `dnnlib.tflib.network.Network`: version 3 is StyleGAN1, later ones StyleGAN2."""
    tensors, told = _variables(network), network.state.get("static_kwargs", {})
    if any("FromRGB" in name for name in tensors):
        raise UnfitError("holds a discriminator and no generator")
    kind = "stylegan1" if "synthesis/4x4/Const/StyleMod/weight" in tensors else "stylegan2"
    if kind == "stylegan2" and "synthesis/4x4/Conv/mod_weight" not in tensors:
        raise UnfitError("holds no generator that is known here")
    _require(told, {"label_size": 0, "num_channels": 3, "latent_size": W, "dlatent_size": W, "mapping_fmaps": W})
    _require(told, {"nonlinearity": "lrelu", "mapping_nonlinearity": "lrelu", "normalize_latents": True})
    sizes = _sizes_in(tensors, r"synthesis/(\d+)x\1/Conv(?:1|)/weight")
    names: dict[str, tuple[str, _Change]] = {"mapping.w_avg": ("dlatent_avg", _same)}
    for i in range(32):
        names[f"mapping.fc{i}.weight"] = f"mapping/Dense{i}/weight", _transposed
        names[f"mapping.fc{i}.bias"] = f"mapping/Dense{i}/bias", _same
    names["synthesis.b4.const"] = "synthesis/4x4/Const/const", _first
    build = _tensorflow1 if kind == "stylegan1" else _tensorflow2
    checkpoint = build(told, sizes, names)
    rate = float(told.get("mapping_lrmul", 0.01))
    version = network.state.get("version")
    return _Recipe(
        f"TensorFlow pickle, version {version}", replace(checkpoint, mapping_rate=rate), _pick(tensors, names),
        told.get("resolution"),
    )  # fmt: skip


def _scope(r: int, i: int) -> str:
    if r == 4:
        return f"synthesis/4x4/{('Const', 'Conv')[i]}"
    return f"synthesis/{r}x{r}/{('Conv0_up', 'Conv1')[i]}"


def _tensorflow1(told: Mapping[str, Any], sizes: list[int], names: dict[str, tuple[str, _Change]]) -> Checkpoint:
    flags = ("use_wscale", "use_styles", "use_noise", "use_instance_norm", "const_input_layer")
    _require(told, {**dict.fromkeys(flags, True), "use_pixel_norm": False, "blur_filter": [1, 2, 1]})
    for r, i in _convs("stylegan1", sizes):
        ours, theirs = f"synthesis.b{r}.conv{i}", _scope(r, i)
        names |= {
            f"{ours}.weight": (f"{theirs}/weight", _oihw),
            f"{ours}.bias": (f"{theirs}/bias", _same),
            f"{ours}.noise_strength": (f"{theirs}/Noise/weight", _same),
            f"{ours}.noise_const": (f"synthesis/noise{2 * int(math.log2(r)) - 4 + i}", _map),
            f"{ours}.affine.weight": (f"{theirs}/StyleMod/weight", _transposed),
            f"{ours}.affine.bias": (f"{theirs}/StyleMod/bias", _same),
        }
    names["synthesis.torgb.weight"] = "synthesis/ToRGB_lod0/weight", _oihw
    names["synthesis.torgb.bias"] = "synthesis/ToRGB_lod0/bias", _same
    fused = {True: 8, False: 2 * LARGEST, "auto": 128}[told.get("fused_scale", "auto")]
    return Checkpoint("stylegan1", {}, fused_from=fused)


def _tensorflow2(told: Mapping[str, Any], sizes: list[int], names: dict[str, tuple[str, _Change]]) -> Checkpoint:
    _require(told, {"architecture": "skip", "resample_kernel": [1, 3, 3, 1], "use_noise": True})
    for r, i in _convs("stylegan2", sizes):
        ours, theirs = f"synthesis.b{r}.conv{i}", _scope(r, i)
        names |= {
            f"{ours}.weight": (f"{theirs}/weight", _oihw if i else _flipped_oihw),
            f"{ours}.bias": (f"{theirs}/bias", _same),
            f"{ours}.noise_strength": (f"{theirs}/noise_strength", _same),
            f"{ours}.noise_const": (f"synthesis/noise{2 * int(math.log2(r)) - 5 + i}", _map),
            f"{ours}.affine.weight": (f"{theirs}/mod_weight", _transposed),
            f"{ours}.affine.bias": (f"{theirs}/mod_bias", _plus_one),
        }
    for r in sizes:
        ours, theirs = f"synthesis.b{r}.torgb", f"synthesis/{r}x{r}/ToRGB"
        names |= {
            f"{ours}.weight": (f"{theirs}/weight", _oihw),
            f"{ours}.bias": (f"{theirs}/bias", _same),
            f"{ours}.affine.weight": (f"{theirs}/mod_weight", _transposed),
            f"{ours}.affine.bias": (f"{theirs}/mod_bias", _plus_one),
        }
    clamp, half = told.get("conv_clamp"), int(told.get("num_fp16_res") or 0)
    top = max(sizes, default=4)
    return Checkpoint("stylegan2", {}, clamp=clamp and float(clamp), half_from=max(2 * top >> half, 8) if half else 0)


# torch: StyleGAN2-ADA's and StyleGAN3's repositories


def _flattened(record: unpickle.Record, prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Its parameters, buffers and settings, and those of its modules, by dotted names."""
    found: dict[str, Any] = {}
    for name, value in record.state.items():
        if name in ("_parameters", "_buffers"):
            found |= {prefix + key: tensor for key, tensor in value.items() if tensor is not None}
        elif name == "_modules" and depth < 8:
            for key, module in value.items():
                if isinstance(module, unpickle.Record):
                    found |= _flattened(module, f"{prefix}{key}.", depth + 1)
        elif name[:1] != "_":
            found[prefix + name] = value
    return found


def _persistent(generator: unpickle.Record) -> _Recipe:
    """A module of the class Generator, as `torch_utils.persistence` pickles it."""
    if generator.name == "Discriminator":
        raise UnfitError("holds a discriminator and no generator")
    found = _flattened(generator)
    tensors = {name: value for name, value in found.items() if isinstance(value, unpickle.LazyTensor)}
    if "synthesis.input.freqs" in tensors:
        raise UnfitError("holds a StyleGAN3-T or -R, whose pictures are made otherwise; known are StyleGAN1 and 2")
    if "synthesis.b4.const" not in tensors:
        raise UnfitError(f"holds a {generator.name or 'network'} that is not known here")
    _require(found, {"z_dim": W, "w_dim": W, "c_dim": 0, "img_channels": 3})
    sizes = _sizes_in(tensors, r"synthesis\.b(\d+)\.conv1\.weight")
    for r, i in _convs("stylegan2", sizes):
        plan = {f"synthesis.b{r}.architecture": "skip", f"synthesis.b{r}.conv{i}.activation": "lrelu"}
        _require(found, {**plan, f"synthesis.b{r}.conv{i}.use_noise": True})
    filters = [name for name in tensors if name.endswith(".resample_filter")]
    _require_filter([tensors.pop(name) for name in filters], gain=1)
    half = [r for r in sizes if found.get(f"synthesis.b{r}.use_fp16")]
    clamp = found.get(f"synthesis.b{sizes[-1]}.conv1.conv_clamp")
    checkpoint = Checkpoint(
        "stylegan2", {}, float(found.get("mapping.fc0.bias_gain", 0.01)), clamp and float(clamp), min(half, default=0)
    )
    parts = {name: (value, _same) for name, value in tensors.items() if not name.endswith("magnitude_ema")}
    return _Recipe("persistence pickle", checkpoint, parts, found.get("img_resolution"))  # type: ignore[arg-type]  # dict is invariant


def _require_filter(filters: list[_Value], gain: float) -> None:
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    wanted = torch.outer(line, line) / 64 * gain
    for kernel in filters:
        if math.prod(_shape_of(kernel)) != 16 or not torch.allclose(_as_tensor(kernel).reshape(4, 4), wanted):
            raise UnfitError("is made with another resampling filter than [1, 3, 3, 1]")


# torch: rosinality's StyleGAN2 and the conversion of StyleGAN1


def _flat(x: Tensor) -> Tensor:
    return x.flatten()


def _number(x: Tensor) -> Tensor:
    return x.reshape(())


def _rosinality(tensors: Mapping[str, _Value]) -> _Recipe:
    blurs = [value for name, value in tensors.items() if re.search(r"(blur|upsample)\.kernel$", name)]
    _require_filter(blurs, gain=4)
    names: dict[str, tuple[str, _Change]] = {
        "mapping.w_avg": ("latent_avg", _flat), "synthesis.b4.const": ("input.input", _first)
    }  # fmt: skip
    for i in range(32):
        names[f"mapping.fc{i}.weight"] = f"style.{i + 1}.weight", _same
        names[f"mapping.fc{i}.bias"] = f"style.{i + 1}.bias", _same
    sizes = [4, *(8 << k for k in _sizes_in(tensors, r"to_rgbs\.(\d+)\.bias"))]
    for n, (r, i) in enumerate(_convs("stylegan2", sizes)):
        ours, theirs = f"synthesis.b{r}.conv{i}", f"convs.{n - 1}" if n else "conv1"
        names |= {
            f"{ours}.weight": (f"{theirs}.conv.weight", _first),
            f"{ours}.bias": (f"{theirs}.activate.bias", _flat),
            f"{ours}.noise_strength": (f"{theirs}.noise.weight", _number),
            f"{ours}.noise_const": (f"noises.noise_{n}", _map),
            f"{ours}.affine.weight": (f"{theirs}.conv.modulation.weight", _same),
            f"{ours}.affine.bias": (f"{theirs}.conv.modulation.bias", _same),
        }
    for n, r in enumerate(sizes):
        ours, theirs = f"synthesis.b{r}.torgb", f"to_rgbs.{n - 1}" if n else "to_rgb1"
        names |= {
            f"{ours}.weight": (f"{theirs}.conv.weight", _first),
            f"{ours}.bias": (f"{theirs}.bias", _flat),
            f"{ours}.affine.weight": (f"{theirs}.conv.modulation.weight", _same),
            f"{ours}.affine.bias": (f"{theirs}.conv.modulation.bias", _same),
        }
    return _Recipe("rosinality's .pt", Checkpoint("stylegan2", {}), _pick(tensors, names))


def _lernapparat(tensors: Mapping[str, _Value]) -> _Recipe:
    """The state of lernapparat's StyleGAN1; it has neither the mean of W nor the noise."""
    names: dict[str, tuple[str, _Change]] = {"synthesis.b4.const": ("g_synthesis.blocks.4x4.const", _first)}
    for i in range(32):
        names[f"mapping.fc{i}.weight"] = f"g_mapping.dense{i}.weight", _same
        names[f"mapping.fc{i}.bias"] = f"g_mapping.dense{i}.bias", _same
    sizes = _sizes_in(tensors, r"g_synthesis\.blocks\.(\d+)x\1\.epi2\.style_mod\.lin\.weight")
    for r, i in _convs("stylegan1", sizes):
        ours, block = f"synthesis.b{r}.conv{i}", f"g_synthesis.blocks.{r}x{r}"
        conv = f"{block}.{('', 'conv')[i] if r == 4 else ('conv0_up', 'conv1')[i]}".rstrip(".")
        names |= {
            f"{ours}.weight": (f"{conv}.weight", _same),
            f"{ours}.bias": (f"{conv}.bias", _same),
            f"{ours}.noise_strength": (f"{block}.epi{i + 1}.top_epi.noise.weight", _same),
            f"{ours}.affine.weight": (f"{block}.epi{i + 1}.style_mod.lin.weight", _same),
            f"{ours}.affine.bias": (f"{block}.epi{i + 1}.style_mod.lin.bias", _same),
        }
    names["synthesis.torgb.weight"] = "g_synthesis.torgb.weight", _same
    names["synthesis.torgb.bias"] = "g_synthesis.torgb.bias", _same
    return _Recipe("torch conversion of StyleGAN1", Checkpoint("stylegan1", {}), _pick(tensors, names))
