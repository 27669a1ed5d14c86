"""Small StyleGANs of random numbers, and files of them in every layout that there is."""

import io
import math
import pickle
import sys
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

import numpy as np
import torch
from torch import nn

from reenact.checkpoints import Checkpoint, layout
from reenact.generators import stylegan1, stylegan2

CPU = torch.device("cpu")


def random_checkpoint(kind, resolution=64, channels=16, seed=0, mapping_layers=2, **settings):
    """A generator whose pictures have a face's contrast, and detail that gets fainter as it gets finer.

    Every number of it is random, biases, noise and all, so that none can be forgotten unseen.
    """
    plan = {r: max(channels * min(1, 64 // r), 2) if r > 64 else channels for r in sizes_to(resolution)}
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in layout(kind, plan, mapping_layers).items():
        x = torch.randn(shape, generator=random)
        if name.startswith("mapping.fc"):
            x = x * (100 if name.endswith("weight") else 10)
        elif name.endswith("affine.bias"):
            x = 0.2 * x + (1 if kind == "stylegan2" else 0)
        elif name.endswith(("bias", "noise_strength", "w_avg")):
            x = 0.1 * x
        if name.endswith("torgb.weight") and kind == "stylegan2":
            x = x / int(name.split(".")[1][1:]) ** 0.8
        tensors[name] = x
    return _levelled(Checkpoint(kind, tensors, **settings))


def sizes_to(resolution):
    return [2**n for n in range(2, int(math.log2(resolution)) + 1)]


def build(checkpoint, dtype=torch.float32):
    return {"stylegan1": stylegan1, "stylegan2": stylegan2}[checkpoint.kind].build(checkpoint, CPU, dtype)


def _levelled(checkpoint):
    """The same with the true mean of W, whose picture gets the mean 0 and the standard deviation 0.3."""
    z = torch.randn(20_000, 512, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        generator = build(replace(checkpoint, exits=()))
        checkpoint.tensors["mapping.w_avg"] = generator.map(z).mean(0)
        w = checkpoint.tensors["mapping.w_avg"].expand(1, generator.num_layers, -1)
        picture = generator.synthesize(w, generator.size)
    mean = picture.mean((0, 2, 3))
    gain = 0.3 / (picture - mean[:, None, None]).std()
    for name in [n for n in checkpoint.tensors if "torgb." in n and "affine" not in n]:
        checkpoint.tensors[name] *= gain
    last = "synthesis.torgb.bias" if checkpoint.kind == "stylegan1" else f"synthesis.b{generator.size}.torgb.bias"
    checkpoint.tensors[last] -= mean * gain
    return checkpoint


# --- TensorFlow pickles -------------------------------------------------------------------------


@contextmanager
def modules(**contents):
    """Modules that are importable for a while, so that pickle finds the names in them. Dots are double underscores."""
    names = {name.replace("__", "."): things for name, things in contents.items()}
    before = dict(sys.modules)
    for name, things in names.items():
        for part in [name[:i] for i, c in enumerate(name) if c == "."] + [name]:
            sys.modules.setdefault(part, ModuleType(part))
        for thing in things:
            thing.__module__ = name
            thing.__qualname__ = thing.__name__
            setattr(sys.modules[name], thing.__name__, thing)
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


class Network:
    """What TensorFlow's pickles are made of."""

    def __init__(self, version, name, variables, components=None, **static_kwargs):
        self.state = {
            "version": version,
            "name": name,
            "static_kwargs": static_kwargs,
            "components": components or {},
            "build_module_src": "raise SystemExit('the source was run')",
            "build_func_name": "G_main",
            "variables": variables,
        }

    def __getstate__(self):
        return self.state


def hwio(x):
    return x.permute(2, 3, 1, 0).numpy().copy()


def tf_network(checkpoint, version=None, **more):
    """Gs as TensorFlow has it."""
    t, one = checkpoint.tensors, checkpoint.kind == "stylegan1"
    version = version or (3 if one else 4)
    mapping, synthesis = [], [("lod", np.float32(0))] if one else []
    for i in range(len([n for n in t if n.startswith("mapping.fc")]) // 2):
        mapping.append((f"Dense{i}/weight", t[f"mapping.fc{i}.weight"].T.numpy().copy()))
        mapping.append((f"Dense{i}/bias", t[f"mapping.fc{i}.bias"].numpy()))
    synthesis.append(("4x4/Const/const", t["synthesis.b4.const"][None].numpy()))
    for r in checkpoint.channels:
        for i in (0, 1):
            ours = f"synthesis.b{r}.conv{i}"
            if f"{ours}.bias" not in t:
                continue
            scope = f"{r}x{r}/" + ((("Const", "Conv"), ("Conv0_up", "Conv1"))[r > 4][i])
            affine, bias = t[f"{ours}.affine.weight"].T.numpy().copy(), t[f"{ours}.affine.bias"]
            strength = t[f"{ours}.noise_strength"].numpy()
            if f"{ours}.weight" in t:
                weight = t[f"{ours}.weight"]
                flipped = not one and i == 0
                synthesis.append((f"{scope}/weight", hwio(weight.flip(2, 3) if flipped else weight)))
            slot = 2 * int(math.log2(r)) - (4 if one else 5) + i
            synthesis += [(f"{scope}/bias", t[f"{ours}.bias"].numpy())]
            synthesis += [(f"noise{slot}", t[f"{ours}.noise_const"][None, None].numpy())]
            if one:
                synthesis += [(f"{scope}/Noise/weight", strength), (f"{scope}/StyleMod/weight", affine)]
                synthesis += [(f"{scope}/StyleMod/bias", bias.numpy())]
            else:
                synthesis += [(f"{scope}/noise_strength", strength[()]), (f"{scope}/mod_weight", affine)]
                synthesis += [(f"{scope}/mod_bias", (bias - 1).numpy())]
        if not one:
            ours, scope = f"synthesis.b{r}.torgb", f"{r}x{r}/ToRGB"
            synthesis += [(f"{scope}/weight", hwio(t[f"{ours}.weight"])), (f"{scope}/bias", t[f"{ours}.bias"].numpy())]
            synthesis += [(f"{scope}/mod_weight", t[f"{ours}.affine.weight"].T.numpy().copy())]
            synthesis += [(f"{scope}/mod_bias", (t[f"{ours}.affine.bias"] - 1).numpy())]
    if one:  # the heads that it grew through are still there
        for lod, r in enumerate(reversed(checkpoint.channels)):
            weight = t["synthesis.torgb.weight"] if lod == 0 else torch.randn(3, checkpoint.channels[r], 1, 1)
            synthesis += [(f"ToRGB_lod{lod}/weight", hwio(weight))]
            synthesis += [(f"ToRGB_lod{lod}/bias", t["synthesis.torgb.bias"].numpy())]
    told = {"resolution": checkpoint.resolution, "num_channels": 3, "label_size": 0, "fmap_max": 512, **more}
    parts = {
        "synthesis": Network(version, "G_synthesis", synthesis, **told),
        "mapping": Network(version, "G_mapping", mapping, dlatent_broadcast=2, **told),
    }
    return Network(version, "Gs", [("lod", np.float32(0)), ("dlatent_avg", t["mapping.w_avg"].numpy())], parts, **told)


def tf_discriminator():
    return Network(4, "D", [("64x64/FromRGB/weight", np.zeros((1, 1, 3, 4), np.float32))], resolution=64)


def pickled_networks(networks, protocol=4):
    with modules(dnnlib__tflib__network=[Network]):
        return pickle.dumps(networks, protocol)


def tf_pickle(checkpoint, protocol=4, version=None, **more):
    """(G, D, Gs), of which Gs is the checkpoint."""
    other = replace(checkpoint, tensors={name: x + 1 for name, x in checkpoint.tensors.items()})
    networks = (tf_network(other, version, **more), tf_discriminator(), tf_network(checkpoint, version, **more))
    return pickled_networks(networks, protocol)


# --- Persistence pickles ------------------------------------------------------------------------


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the real one executes module_src")


class EasyDict(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Persistent(nn.Module):
    """A module that pickles as torch_utils.persistence makes it."""

    def __init__(self, class_name, parameters=(), buffers=(), children=(), init=(), **attributes):
        super().__init__()
        self._class_name = class_name
        self.__dict__.update(attributes)
        for name, x in dict(parameters).items():
            self.register_parameter(name, nn.Parameter(x) if x is not None else None)
        for name, x in dict(buffers).items():
            self.register_buffer(name, x)
        for name, x in dict(children).items():
            self.add_module(name, x)
        self._init_args, self._init_kwargs = (), EasyDict(init)

    def __reduce__(self):
        # Before protocol 4 a module's own state looked so, whatever torch has made of it since.
        state = {
            k: OrderedDict(v) if k in ("_parameters", "_buffers", "_modules") else v for k, v in vars(self).items()
        }
        name = state.pop("_class_name")
        source = "raise SystemExit('the source was run')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": name, "state": state}
        return _reconstruct_persistent_obj, (meta,), None


def dense(t, name, gain):
    return Persistent(
        "FullyConnectedLayer", {"weight": t[f"{name}.weight"], "bias": t[f"{name}.bias"]}, activation="lrelu",
        weight_gain=np.float64(gain / math.sqrt(512)), bias_gain=gain,
    )  # fmt: skip


def resample_filter():
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(line, line) / 64


def persistent_generator(checkpoint, repository="ada"):
    """G_ema as StyleGAN2-ADA ('ada') or StyleGAN3's repository ('stylegan3') has it."""
    t, clamp, top = checkpoint.tensors, checkpoint.clamp, checkpoint.resolution
    blocks = {}
    for r, out in checkpoint.channels.items():
        parts = {}
        for i in (0, 1):
            name = f"synthesis.b{r}.conv{i}"
            if f"{name}.weight" in t:
                parts[f"conv{i}"] = Persistent(
                    "SynthesisLayer",
                    {key: t[f"{name}.{key}"] for key in ("weight", "noise_strength", "bias")},
                    {"resample_filter": resample_filter(), "noise_const": t[f"{name}.noise_const"]},
                    {"affine": dense(t, f"{name}.affine", 1)},
                    resolution=r, up=2 - i, use_noise=True, activation="lrelu", conv_clamp=clamp, padding=1,
                    act_gain=np.sqrt(2),
                )  # fmt: skip
        name = f"synthesis.b{r}.torgb"
        parts["torgb"] = Persistent(
            "ToRGBLayer", {key: t[f"{name}.{key}"] for key in ("weight", "bias")}, (),
            {"affine": dense(t, f"{name}.affine", 1)}, conv_clamp=clamp, weight_gain=1 / np.sqrt(out),
        )  # fmt: skip
        blocks[f"b{r}"] = Persistent(
            "SynthesisBlock", {"const": t["synthesis.b4.const"]} if r == 4 else {},
            {"resample_filter": resample_filter()}, parts, resolution=r, img_channels=3, is_last=r == top,
            architecture="skip", use_fp16=0 < checkpoint.half_from <= r, channels_last=False,
        )  # fmt: skip
    layers = {n.split(".")[1]: None for n in t if n.startswith("mapping.fc")}
    mapping = Persistent(
        "MappingNetwork", (), {"w_avg": t["mapping.w_avg"]},
        {n: dense(t, f"mapping.{n}", checkpoint.mapping_rate) for n in layers},
        z_dim=512, c_dim=0, w_dim=512, num_layers=len(layers), w_avg_beta=0.995,
    )  # fmt: skip
    synthesis = Persistent(
        "SynthesisNetwork", children=blocks, w_dim=512, img_resolution=top, img_channels=3,
        block_resolutions=list(checkpoint.channels),
    )  # fmt: skip
    half = len([r for r in checkpoint.channels if 0 < checkpoint.half_from <= r])
    inner = {"channel_base": 32768, "num_fp16_res": half, "conv_clamp": clamp}
    init = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": top, "img_channels": 3, "mapping_kwargs": {}}
    init |= {"synthesis_kwargs": EasyDict(inner)} if repository == "ada" else inner
    return Persistent(
        "Generator", children={"synthesis": synthesis, "mapping": mapping}, init=init,
        z_dim=512, c_dim=0, w_dim=512, img_resolution=top, img_channels=3, num_ws=2 * int(math.log2(top)) - 2,
    )  # fmt: skip


def persistent_discriminator():
    return Persistent("Discriminator", {"weight": torch.zeros(3)}, img_resolution=64)


def stylegan3_generator():
    inner = Persistent(
        "SynthesisInput", (), {"freqs": torch.zeros(4, 2), "phases": torch.zeros(4)}, size=np.array([4, 4])
    )
    synthesis = Persistent("SynthesisNetwork", children={"input": inner}, img_resolution=64)
    mapping = Persistent("MappingNetwork", (), {"w_avg": torch.zeros(512)})
    return Persistent("Generator", children={"mapping": mapping, "synthesis": synthesis}, img_resolution=64)


def pickled_modules(data, protocol=3):
    with modules(torch_utils__persistence=[_reconstruct_persistent_obj], dnnlib__util=[EasyDict]):
        return pickle.dumps(data, protocol)


def persistence_pickle(checkpoint, protocol=3, repository="ada"):
    averaged = persistent_generator(checkpoint, repository)
    other = replace(checkpoint, tensors={name: x + 1 for name, x in checkpoint.tensors.items()})
    data = {"G": persistent_generator(other, repository), "D": persistent_discriminator(), "G_ema": averaged}
    data |= {"training_set_kwargs": EasyDict(class_name="ImageFolderDataset"), "augment_pipe": None}
    return pickled_modules(data, protocol)


# --- torch.save ---------------------------------------------------------------------------------


def rosinality_state(checkpoint):
    """g_ema's state."""
    t, out = checkpoint.tensors, OrderedDict()
    for i in range(len([n for n in t if n.startswith("mapping.fc")]) // 2):
        out[f"style.{i + 1}.weight"], out[f"style.{i + 1}.bias"] = (t[f"mapping.fc{i}.{k}"] for k in ("weight", "bias"))
    out["input.input"] = t["synthesis.b4.const"][None]
    convs = [f"synthesis.b{r}.conv{i}" for r in checkpoint.channels for i in (0, 1) if (r, i) != (4, 0)]
    for n, ours in enumerate(convs):
        theirs = f"convs.{n - 1}" if n else "conv1"
        out[f"{theirs}.conv.weight"] = t[f"{ours}.weight"][None]
        if ours.endswith("conv0"):
            out[f"{theirs}.conv.blur.kernel"] = resample_filter() * 4
        out[f"{theirs}.conv.modulation.weight"] = t[f"{ours}.affine.weight"]
        out[f"{theirs}.conv.modulation.bias"] = t[f"{ours}.affine.bias"]
        out[f"{theirs}.noise.weight"] = t[f"{ours}.noise_strength"].reshape(1)
        out[f"{theirs}.activate.bias"] = t[f"{ours}.bias"]
        out[f"noises.noise_{n}"] = t[f"{ours}.noise_const"][None, None]
    for n, r in enumerate(checkpoint.channels):
        ours, theirs = f"synthesis.b{r}.torgb", f"to_rgbs.{n - 1}" if n else "to_rgb1"
        out[f"{theirs}.bias"] = t[f"{ours}.bias"].reshape(1, 3, 1, 1)
        if n:
            out[f"{theirs}.upsample.kernel"] = resample_filter() * 4
        out[f"{theirs}.conv.weight"] = t[f"{ours}.weight"][None]
        out[f"{theirs}.conv.modulation.weight"] = t[f"{ours}.affine.weight"]
        out[f"{theirs}.conv.modulation.bias"] = t[f"{ours}.affine.bias"]
    return out


def lernapparat_state(checkpoint):
    """The state of the torch conversion of StyleGAN1."""
    t, out = checkpoint.tensors, OrderedDict()
    for i in range(len([n for n in t if n.startswith("mapping.fc")]) // 2):
        for key in ("weight", "bias"):
            out[f"g_mapping.dense{i}.{key}"] = t[f"mapping.fc{i}.{key}"]
    out["g_synthesis.torgb.weight"], out["g_synthesis.torgb.bias"] = (
        t["synthesis.torgb.weight"],
        t["synthesis.torgb.bias"],
    )
    blur = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
    for r in checkpoint.channels:
        block = f"g_synthesis.blocks.{r}x{r}"
        for i in (0, 1):
            ours, epilogue = f"synthesis.b{r}.conv{i}", f"{block}.epi{i + 1}"
            if r == 4 and i == 0:
                out[f"{block}.const"], out[f"{block}.bias"] = t["synthesis.b4.const"][None], t[f"{ours}.bias"]
            else:
                conv = "conv" if r == 4 else ("conv0_up", "conv1")[i]
                out[f"{block}.{conv}.weight"], out[f"{block}.{conv}.bias"] = t[f"{ours}.weight"], t[f"{ours}.bias"]
                if conv == "conv0_up":
                    out[f"{block}.{conv}.intermediate.kernel"] = blur
            out[f"{epilogue}.top_epi.noise.weight"] = t[f"{ours}.noise_strength"]
            out[f"{epilogue}.style_mod.lin.weight"] = t[f"{ours}.affine.weight"]
            out[f"{epilogue}.style_mod.lin.bias"] = t[f"{ours}.affine.bias"]
    return out


def torch_saved(data, zipped=True):
    out = io.BytesIO()
    torch.save(data, out, _use_new_zipfile_serialization=zipped)
    return out.getvalue()
