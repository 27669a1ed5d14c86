"""The conventions of StyleGAN 1 and 2 that are easy to get wrong, each computed another way in double precision."""

import math
from dataclasses import replace

import numpy as np
import pytest
import stylegans
import torch
from scipy import signal

from reenact.checkpoints import Checkpoint, layout
from reenact.generators import stylegan1, stylegan2
from reenact.generators._style import Mapping, Noise, truncated

CHANNELS = {4: 6, 8: 4, 16: 3}
FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64 * 4


def tiny(kind, seed=0, **settings):
    """A network of 16x16 pixels, too small to be a generator, small enough for loops."""
    random = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=random) for name, shape in layout(kind, CHANNELS, 2).items()}
    return Checkpoint(kind, tensors, **settings)


def double(checkpoint, name):
    return checkpoint.tensors[name].double().numpy()


def close(found, wanted, tolerance=1e-4):
    """Equal but for single precision."""
    scale = max(1.0, np.abs(wanted).max())
    return found.shape == wanted.shape and np.abs(found.double().numpy() - wanted).max() < tolerance * scale


def leaky(x):
    return np.where(x >= 0, x, 0.2 * x)


def affine(checkpoint, name, w):
    """[512] -> [C], by the equalised learning rate: weights over √512, biases as they are."""
    return double(checkpoint, f"{name}.affine.weight") @ w / math.sqrt(512) + double(checkpoint, f"{name}.affine.bias")


def correlate(x, weight):
    """[I,H,W], [O,I,3,3] -> [O,H,W]: a 3x3 convolution as networks mean it, zeros beyond the edge."""
    return np.stack([sum(signal.correlate2d(x[i], k[i], "same") for i in range(len(x))) for k in weight])


def zeros_between(x):
    """[C,H,W] -> [C,2H,2W]: each number, then a zero."""
    out = np.zeros((len(x), 2 * x.shape[1], 2 * x.shape[2]))
    out[:, ::2, ::2] = x
    return out


# --- The networks, layer by layer, for one W+ [L,512] -------------------------------------------


def reference2(checkpoint, w):
    """StyleGAN2 as its paper describes it: the weights themselves modulated and demodulated. Every picture."""
    x, picture, pictures = double(checkpoint, "synthesis.b4.const"), None, {}
    clamp = checkpoint.clamp or math.inf

    def conv(x, name, w, up):
        weight = double(checkpoint, f"{name}.weight") * affine(checkpoint, name, w)[None, :, None, None]
        weight = weight / np.sqrt((weight**2).sum((1, 2, 3), keepdims=True) + 1e-8)
        if up:  # with zeros between, through the kernel turned round, and blurred: 2H-1 + 2, + 3, less what is padded
            full = [sum(signal.convolve2d(zeros_between(x)[i], k[i]) for i in range(len(x))) for k in weight]
            blurred = np.stack([signal.convolve2d(each[:-1, :-1], FIR) for each in full])
            x = blurred[:, 2:-2, 2:-2]
        else:
            x = correlate(x, weight)
        noise = double(checkpoint, f"{name}.noise_const") * double(checkpoint, f"{name}.noise_strength")
        x = x + noise + double(checkpoint, f"{name}.bias")[:, None, None]
        return np.clip(leaky(x) * math.sqrt(2), -clamp, clamp)

    for r in checkpoint.channels:
        n, block = int(math.log2(r)), f"synthesis.b{r}"
        if r > 4:
            x = conv(x, f"{block}.conv0", w[2 * n - 5], up=True)
        x = conv(x, f"{block}.conv1", w[2 * n - 4], up=False)
        style = affine(checkpoint, f"{block}.torgb", w[2 * n - 3]) / math.sqrt(len(x))
        added = np.einsum("oi,i,ihw->ohw", double(checkpoint, f"{block}.torgb.weight")[:, :, 0, 0], style, x)
        added = np.clip(added + double(checkpoint, f"{block}.torgb.bias")[:, None, None], -clamp, clamp)
        if picture is not None:  # zeros between, two more before and one after, the filter wherever it fits
            wide = np.pad(zeros_between(picture), ((0, 0), (2, 1), (2, 1)))
            added = added + np.stack([signal.convolve2d(each, FIR, "valid") for each in wide])
        picture = pictures[r] = added
    return pictures


def reference1(checkpoint, w):
    """StyleGAN as its paper describes it: adaptive instance normalisation."""
    x = double(checkpoint, "synthesis.b4.const")

    def epilogue(x, name, w):
        strength = double(checkpoint, f"{name}.noise_strength")[:, None, None]
        x = x + double(checkpoint, f"{name}.noise_const") * strength
        x = leaky(x + double(checkpoint, f"{name}.bias")[:, None, None])
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        style = affine(checkpoint, name, w).reshape(2, -1, 1, 1)
        return (x - mean) / np.sqrt(variance + 1e-8) * (style[0] + 1) + style[1]

    for r in checkpoint.channels:
        n = int(math.log2(r))
        for i in (0, 1):
            name = f"synthesis.b{r}.conv{i}"
            if (r, i) != (4, 0):
                weight = double(checkpoint, f"{name}.weight")
                weight = weight * math.sqrt(2) / math.sqrt(9 * weight.shape[1])
                if i == 0:
                    x = x.repeat(2, 1).repeat(2, 2)
                    if r >= checkpoint.fused_from:  # the fused form is the same with the kernel turned round
                        weight = weight[:, :, ::-1, ::-1]
                x = correlate(x, weight)
                if i == 0:
                    x = np.stack([signal.convolve2d(each, np.outer([1, 2, 1], [1, 2, 1]) / 16, "same") for each in x])
            x = epilogue(x, name, w[2 * n - 4 + i])
    weight = double(checkpoint, "synthesis.torgb.weight")[:, :, 0, 0] / math.sqrt(len(x))
    return np.einsum("oi,ihw->ohw", weight, x) + double(checkpoint, "synthesis.torgb.bias")[:, None, None]


def latents(count=2, slots=6):
    return torch.randn(count, slots, 512, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("clamp", [None, 1.5])
def test_stylegan2_from_end_to_end(clamp):
    checkpoint, w = tiny("stylegan2", clamp=clamp), latents()
    found = dict(stylegan2.Synthesis2(checkpoint, torch.float32).stages(w, "const", 16))
    assert list(found) == [4, 8, 16]
    for row in range(len(w)):
        for size, wanted in reference2(checkpoint, w[row].double().numpy()).items():
            assert close(found[size][row].detach(), wanted)


@pytest.mark.parametrize("fused_from", [8, 16, 128])
def test_stylegan1_from_end_to_end(fused_from):
    checkpoint, w = tiny("stylegan1", fused_from=fused_from), latents()
    ((size, found),) = stylegan1.Synthesis1(checkpoint, torch.float32).stages(w, "const", 16)
    assert size == 16
    for row in range(len(w)):
        assert close(found[row].detach(), reference1(checkpoint, w[row].double().numpy()))


# --- One by one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [False, True])
def test_a_modulated_and_demodulated_convolution_by_loops(up):
    checkpoint, name = tiny("stylegan2"), "synthesis.b8.conv0" if up else "synthesis.b8.conv1"
    for each in ("noise_strength", "bias"):
        checkpoint.tensors[f"{name}.{each}"] *= 0
    checkpoint.tensors[f"{name}.noise_const"] = torch.zeros(8 if up else 4, 8 if up else 4)
    conv = stylegan2.StyledConv(checkpoint, name, 8, up, torch.float32)
    x, w = torch.randn(1, conv.energy.shape[1], 4, 4), torch.randn(1, 512)
    weight, style = double(checkpoint, f"{name}.weight"), affine(checkpoint, name, w[0].double().numpy())
    size = 9 if up else 4
    out = np.zeros((len(weight), size, size))
    for o, kernel in enumerate(weight):
        total = sum((kernel[i, a, b] * style[i]) ** 2 for i in range(len(style)) for a in range(3) for b in range(3))
        for i in range(len(style)):
            for a, b, row, column in np.ndindex(3, 3, 4, 4):
                value = kernel[i, a, b] * style[i] / math.sqrt(total + 1e-8) * float(x[0, i, row, column])
                # Upsampling spreads each number over its kernel, every second place; else it gathers, around itself.
                r, c = (2 * row + a, 2 * column + b) if up else (row + 1 - a, column + 1 - b)
                if 0 <= r < size and 0 <= c < size:
                    out[o, r, c] += value
    if up:
        wide, out = np.pad(out, ((0, 0), (1, 1), (1, 1))), np.zeros((len(weight), 8, 8))
        for o, r, c, a, b in np.ndindex(*out.shape, 4, 4):
            out[o, r, c] += wide[o, r + a, c + b] * FIR[a, b]
    assert close(conv(x, w, "const")[0].detach(), leaky(out) * math.sqrt(2))


def test_the_upsampled_picture_by_loops():
    picture = torch.randn(1, 3, 3, 5)
    out = np.zeros((3, 6, 10))
    for c, row, column in np.ndindex(3, 6, 10):
        for a, b in np.ndindex(4, 4):
            r, k = row + a - 2, column + b - 2  # two zeros come first
            if r % 2 == 0 and k % 2 == 0 and 0 <= r < 6 and 0 <= k < 10:
                out[c, row, column] += float(picture[0, c, r // 2, k // 2]) * FIR[a, b]
    assert close(stylegan2.upsampled(picture)[0], out)


def test_the_upsampled_picture_keeps_what_is_flat():
    assert torch.allclose(stylegan2.upsampled(torch.ones(1, 3, 8, 8))[..., 2:-2, 2:-2], torch.tensor(1.0))


def test_stylegan1s_fused_upscale_is_the_turned_kernel_on_doubled_pixels():
    weight, x = torch.randn(5, 4, 3, 3), torch.randn(1, 4, 6, 6)
    fused = torch.nn.functional.conv_transpose2d(x, stylegan1.fused_kernel(weight), stride=2, padding=1)[0]
    wide = x[0].double().numpy().repeat(2, 1).repeat(2, 2)
    assert close(fused, correlate(wide, weight.double().numpy()[:, :, ::-1, ::-1]))


def test_stylegan1s_blur():
    x = torch.randn(1, 3, 6, 7)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    wanted = np.stack([signal.convolve2d(each, kernel, "same") for each in x[0].double().numpy()])
    assert close(stylegan1.blurred(x)[0], wanted, 1e-6)


def test_instance_norm_has_a_biased_variance_and_its_epsilon_inside_the_root():
    x = torch.randn(2, 3, 4, 4) * torch.tensor([1.0, 1e-4, 1e-6])[:, None, None]  # a variance as small as epsilon
    numbers = x.double().numpy()
    mean, variance = numbers.mean((2, 3), keepdims=True), numbers.var((2, 3), keepdims=True)
    scale, offset = torch.randn(2, 3, 1, 1), torch.randn(2, 3, 1, 1)
    wanted = (numbers - mean) / np.sqrt(variance + 1e-8) * scale.double().numpy() + offset.double().numpy()
    assert close(stylegan1.instance_norm(x, scale, offset), wanted)
    half = stylegan1.instance_norm(x.bfloat16(), scale, offset)
    assert half.dtype == torch.bfloat16
    assert close(half[:, :2], wanted[:, :2], 0.05)


def test_noise_is_one_map_with_a_strength_for_each_channel():
    tensors = {"a.conv1.noise_const": torch.randn(4, 4), "a.conv1.noise_strength": torch.tensor([0.0, 1.0, -2.0])}
    noise, x = Noise(tensors, "a.conv1", 4), torch.randn(2, 3, 4, 4)
    added = noise(x, "const") - x
    assert torch.allclose(added[1], tensors["a.conv1.noise_const"] * torch.tensor([0.0, 1, -2])[:, None, None])
    assert torch.allclose(added[0], added[1], atol=1e-6)
    assert torch.equal(noise(x, "none"), x)
    drawn = noise(x, "random") - x
    assert torch.allclose(drawn[:, 2], -2 * drawn[:, 1], atol=1e-5)
    assert not torch.allclose(drawn[0], drawn[1])
    assert not torch.allclose(drawn, noise(x, "random") - x)


def test_noise_that_a_file_lacks_is_drawn_once_and_for_all():
    checkpoint = tiny("stylegan2")
    name = "synthesis.b8.conv0"
    del checkpoint.tensors[f"{name}.noise_const"]
    first, again = (Noise(checkpoint.tensors, name, 8).constant for _ in range(2))
    assert torch.equal(first, again)
    assert 0.7 < first.std() < 1.3


@pytest.mark.parametrize(("kind", "gain"), [("stylegan1", 1.0), ("stylegan2", math.sqrt(2))])
def test_the_mapping(kind, gain):
    """StyleGAN1: gain √2 in the weights; StyleGAN2: after the activation, and so on the biases too."""
    checkpoint, z = tiny(kind, mapping_rate=0.02), torch.randn(1, 512)
    x = z[0].double().numpy()
    x = x / np.sqrt((x**2).mean() + 1e-8)
    for i in range(2):
        weight, bias = (double(checkpoint, f"mapping.fc{i}.{name}") * 0.02 for name in ("weight", "bias"))
        if kind == "stylegan1":
            x = leaky(weight @ x * math.sqrt(2) / math.sqrt(512) + bias)
        else:
            x = leaky(weight @ x / math.sqrt(512) + bias) * math.sqrt(2)
    assert close(Mapping(checkpoint, gain)(z)[0].detach(), x)


def test_truncation_holds_to_the_mean_below_a_slot():
    w, mean = torch.randn(2, 18, 512), torch.randn(18, 512)
    found = truncated(w, mean, 0.7, below=8)
    for row, slot in np.ndindex(2, 18):
        wanted = mean[slot] + 0.7 * (w[row, slot] - mean[slot]) if slot < 8 else w[row, slot]
        assert torch.allclose(found[row, slot], wanted, atol=1e-6)
    assert torch.allclose(truncated(w, mean, 0.5), (w + mean) / 2, atol=1e-6)


# --- Slots --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "first"), [(0, 4), (1, 4), (2, 8), (3, 8), (4, 16), (5, 16), (6, 32), (7, 32), (8, 64), (9, 64)]
)
def test_stylegan2s_slots_change_the_picture_from_their_resolution_on(slot, first):
    """2n-3 is both the picture's at 2^n and the first convolution's at 2^(n+1)."""
    synthesis = stylegans.build(stylegans.random_checkpoint("stylegan2", 64, 4)).synthesis
    w = latents(1, 10)
    moved = w.clone()
    moved[:, slot] += 1
    before, after = (dict(synthesis.stages(each, "const", 64)) for each in (w, moved))
    changed = [size for size in before if not torch.equal(before[size], after[size])]
    assert changed == [size for size in before if size >= first]


def test_stylegan1s_slots_are_its_convolutions_in_order():
    generator = stylegans.build(stylegans.random_checkpoint("stylegan1", 64, 4))
    outputs = []
    for conv in generator.synthesis.convs:
        conv.register_forward_hook(lambda module, given, out: outputs.append(out))
    w = latents(1, 10)
    generator.synthesize(w, 64)
    before = list(outputs)
    assert [len(out[0, 0]) for out in before] == [4, 4, 8, 8, 16, 16, 32, 32, 64, 64]
    for slot in range(10):
        outputs.clear()
        moved = w.clone()
        moved[:, slot] += 1
        generator.synthesize(moved, 64)
        assert [not torch.equal(a, b) for a, b in zip(before, outputs, strict=True)] == [i >= slot for i in range(10)]


def test_layers_by_resolution_and_by_the_papers_numbers():
    one, two = (stylegans.build(stylegans.random_checkpoint(kind, 64, 4)) for kind in ("stylegan1", "stylegan2"))
    assert [one.layers_at(r) for r in (4, 8, 16, 32, 64, 128)] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), ()]
    assert [two.layers_at(r) for r in (4, 8, 16, 32, 64, 128)] == [(0,), (1, 2), (3, 4), (5, 6), (7, 8), ()]
    assert one.paper_layers == (4 - 1, 5 - 1)
    for generator in (one, two):
        assert generator.paper_layers == (generator.layers_at(8)[1], generator.layers_at(16)[0])


@pytest.mark.parametrize(("size", "slots"), [(64, 10), (128, 12), (256, 14)])
@pytest.mark.parametrize("kind", ["stylegan1", "stylegan2"])
def test_slots_by_size(kind, size, slots):
    generator = stylegans.build(stylegans.random_checkpoint(kind, size, 4))
    assert generator.num_layers == slots
    assert generator.sizes == (*(s for s in (128, 256, 512) if s < size), size)


# --- Exits and halves ---------------------------------------------------------------------------


def test_an_exit_that_does_not_look_like_the_whole_is_not_taken():
    checkpoint = stylegans.random_checkpoint("stylegan2", 256, 8)
    assert stylegans.build(checkpoint).exits == (128,)
    tensors = dict(checkpoint.tensors)
    tensors["synthesis.b256.torgb.weight"] = tensors["synthesis.b256.torgb.weight"] * 400  # all is in the last layer
    loud = stylegans.build(replace(checkpoint, tensors=tensors))
    assert loud.exits == ()
    assert loud.sizes == (128, 256)
    w = loud.mean_latent[None]
    whole = loud.synthesize(w, 256)
    assert torch.allclose(loud.synthesize(w, 128), torch.nn.functional.avg_pool2d(whole, 2), atol=1e-5)


def test_stylegan1s_exits_are_read_from_its_features():
    """A last resolution that only passes on what is there: a linear readout of what was before tells the picture."""
    checkpoint = stylegans.random_checkpoint("stylegan1", 256, 8)
    assert stylegans.build(checkpoint).exits == ()  # a random one does anything but that
    t = checkpoint.tensors
    for name in ("synthesis.b256.conv0", "synthesis.b256.conv1"):
        channels = len(t[f"{name}.bias"])
        t[f"{name}.weight"] = torch.zeros(channels, channels, 3, 3)
        t[f"{name}.weight"][:, :, 1, 1] = torch.eye(channels)
        t[f"{name}.bias"] = torch.full((channels,), 10.0)  # where leaky ReLU is straight
        t[f"{name}.noise_strength"] = torch.zeros(channels)
        t[f"{name}.affine.weight"] = torch.zeros(2 * channels, 512)
    t["synthesis.b128.conv1.affine.weight"] *= 0  # else its scale is undone by the norm of the next
    generator = stylegans.build(checkpoint)
    assert generator.exits == (128,)
    w = generator.map(torch.randn(1, 512, generator=torch.Generator().manual_seed(9)))[:, None].expand(-1, 14, -1)
    whole = torch.nn.functional.avg_pool2d(generator.synthesize(w, 256), 2)
    assert 10 * torch.log10(4 / (generator.synthesize(w, 128) - whole).square().mean()) > 25
    assert whole.std() > 0.1
    assert len(list(generator.synthesis.stages(w, "const", 128))) == 1  # nothing beyond was run


def test_exits_take_the_colours_of_the_whole():
    """A last layer that adds a constant colour: the exit learns it."""
    checkpoint = stylegans.random_checkpoint("stylegan2", 256, 8)
    checkpoint.tensors["synthesis.b256.torgb.bias"] += torch.tensor([0.3, -0.2, 0.1])
    generator = stylegans.build(checkpoint)
    w = generator.mean_latent[None]
    shift = (generator.synthesize(w, 256).mean((2, 3)) - generator.synthesize(w, 128).mean((2, 3))).abs()
    assert shift.max() < 0.05


def test_fp16_where_it_was_trained_for_it_and_there_alone():
    checkpoint = stylegans.random_checkpoint("stylegan2", 128, 8, clamp=256.0, half_from=32)
    checkpoint.tensors["synthesis.b64.conv0.weight"] *= 1e5  # demodulation makes up for it, fp16's range would not
    half = stylegans.build(checkpoint, torch.float16)
    kinds = {int(name.split("x")[0]): kind for name, kind in dtypes(half)}
    assert kinds == {
        4: torch.float32,
        8: torch.float32,
        16: torch.float32,
        **dict.fromkeys((32, 64, 128), torch.float16),
    }
    w = truncated(half.map(torch.randn(1, 512))[:, None].expand(-1, 12, -1), half.mean_latent)
    difference = (half.synthesize(w, 128) - stylegans.build(checkpoint).synthesize(w, 128)).abs()
    assert difference.max() < 0.05
    assert {kind for _, kind in dtypes(stylegans.build(replace(checkpoint, half_from=0), torch.float16))} == {
        torch.float32
    }


def dtypes(generator):
    convs = generator.synthesis.convs
    sizes = [4, *(8 << (i // 2) for i in range(len(convs) - 1))]
    return [(f"{size}x{size}", conv.weight.dtype) for size, conv in zip(sizes, convs, strict=True)]
