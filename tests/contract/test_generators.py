"""The same questions to every generator.

Those whose files are not to be had here run small networks of random numbers, in files of the same layout.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pytest
import stylegans
import torch
import torch.nn.functional as F

from reenact import generators, plugins
from reenact.errors import UsageError
from reenact.perceptual import load_vgg
from reenact.tune import TuneOptions, tune, with_weights
from reenact.weights import WeightStore

pytestmark = pytest.mark.pretrained

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=plugins.names("generators"))
def name(request):
    return request.param


def store_with(folder, file, data):
    """A cache in which a generator's own file is another one."""
    (folder / file).write_bytes(data)
    about = f'bytes = {len(data)}\nsha256 = "{hashlib.sha256(data).hexdigest()}"\nlicence = ""\norigin = ""\nnote = ""'
    (folder / "weights.toml").write_text(f'[weights."{file}"]\n{about}\nsources = []\n')
    return WeightStore(folder, registry=folder / "weights.toml")


@pytest.fixture(scope="module")
def create(name, store, tmp_path_factory):
    """dtype -> the generator."""
    module = plugins.module("generators", name)
    if name.startswith("stylegan"):
        data = stylegans.tf_pickle(stylegans.random_checkpoint(name, 256, 16, mapping_layers=4))
        store = store_with(tmp_path_factory.mktemp(name), module.WEIGHTS, data)
    return partial(module.create, store, CPU)


@pytest.fixture(scope="module")
def generator(create):
    return create()


@pytest.fixture(scope="module")
def sampled(generator):
    """Two faces of W, [2,L,512], and their whole pictures."""
    w = samples(generator, 2)
    with torch.inference_mode():
        return w, generator.synthesize(w, generator.sizes[-1])


def samples(generator, count, seed=0):
    with torch.inference_mode():
        w = generator.map(torch.randn(count, 512, generator=torch.Generator().manual_seed(seed)))
    return w[:, None].repeat(1, generator.num_layers, 1).clone()


def draw(generator, w, size=None):
    with torch.inference_mode():
        return generator.synthesize(w, size or generator.sizes[0])


def dead_layers(generator):
    return [slot for slot in range(generator.num_layers) if slot not in generator.live_layers]


# --- What it says of itself ---------------------------------------------------------------------


def test_it_is_called_like_its_file(generator, name):
    assert generator.name == name


def test_sizes_ascend(generator):
    assert all(small < large for small, large in pairwise(generator.sizes))


def test_slots_are_of_its_own(generator):
    slots = range(generator.num_layers)
    assert set(generator.live_layers) <= set(slots)
    for preset in (generator.expression_layers, generator.paper_layers):
        assert preset
        assert set(preset) <= set(generator.live_layers)


def test_exits_are_sizes_below_its_own(generator):
    assert set(generator.exits) <= set(generator.sizes[:-1])


def test_presets_are_those_of_their_resolutions(generator):
    by_resolution = {r: generator.layers_at(r) for r in (4, 8, 16, 32, 64)}
    assert generator.expression_layers == tuple(s for r in (8, 16, 32, 64) for s in by_resolution[r])
    assert generator.paper_layers == (by_resolution[8][1], by_resolution[16][0])  # StyleGAN's 4 and 5, from 1


def test_layers_of_each_resolution_follow_those_of_the_last(generator):
    resolutions = [2**n for n in range(2, generator.sizes[-1].bit_length() - 1)]
    layers = [slot for resolution in resolutions for slot in generator.layers_at(resolution)]
    assert layers
    assert layers == sorted(set(layers))
    assert set(layers) <= set(generator.live_layers)
    assert generator.layers_at(8)
    assert generator.layers_at(16)


def test_mean_and_covariance_are_those_of_w(generator):
    w = samples(generator, 4000)[:, 0]
    assert generator.mean_latent.shape == (generator.num_layers, 512)
    assert generator.mean_latent.dtype == generator.covariance.dtype == torch.float32
    assert (w.mean(0) - generator.mean_latent).norm(dim=1).max() < 0.1 * w.std(0).norm()
    assert (w.T.cov() - generator.covariance).norm() < 0.15 * generator.covariance.norm()


def test_the_papers_search_begins_at_zero_and_at_the_mean_where_zero_draws_no_face(generator, name):
    zero = torch.zeros_like(generator.mean_latent)
    assert torch.equal(generator.origin, zero if name.startswith("stylegan") else generator.mean_latent)


# --- Pictures -----------------------------------------------------------------------------------


def test_every_size_is_made(generator):
    for size in generator.sizes:
        picture = draw(generator, generator.mean_latent[None], size)
        assert picture.shape == (1, 3, size, size)
        assert picture.isfinite().all()
        assert picture.quantile(0.01) > -1.2
        assert picture.quantile(0.99) < 1.2
        assert picture.std() > 0.2


@pytest.mark.parametrize("size", [0, 100, 2048])
def test_another_size_is_refused_with_those_there_are(generator, size):
    with pytest.raises(ValueError, match=", ".join(map(str, generator.sizes))):
        generator.synthesize(generator.mean_latent[None], size)


def test_the_same_w_gives_the_same_picture_and_is_left_alone(generator):
    w = samples(generator, 1)
    first, second = draw(generator, w), draw(generator, w)
    assert torch.equal(first, second)
    assert torch.equal(w, samples(generator, 1))


def test_another_w_gives_another_picture(generator):
    assert (draw(generator, samples(generator, 1)) - draw(generator, samples(generator, 1, seed=1))).abs().mean() > 0.1


def test_a_batch_is_its_pictures(generator):
    w = samples(generator, 2)
    singles = torch.cat([draw(generator, one[None]) for one in w])
    assert draw(generator, w) == pytest.approx(singles, abs=1e-4)


def test_two_threads_may_draw_at_once(generator):
    some, others = samples(generator, 1), samples(generator, 1, seed=1)
    wanted = [draw(generator, w) for w in (some, others)]
    with ThreadPoolExecutor(2) as pool:
        drawn = list(pool.map(lambda w: draw(generator, w), [some, others] * 4))
    for i, picture in enumerate(drawn):
        assert picture == pytest.approx(wanted[i % 2], abs=1e-4)


def test_a_picture_is_the_same_where_a_gradient_is_wanted(generator):
    w = samples(generator, 1)
    for size in generator.sizes:
        with_gradient = generator.synthesize(w.clone().requires_grad_(), size).detach()
        assert draw(generator, w, size) == pytest.approx(with_gradient, abs=1e-4)


def test_early_exits_look_like_the_whole_picture(generator, sampled):
    w, whole = sampled
    for size in generator.sizes[:-1]:
        error = (draw(generator, w, size) - F.adaptive_avg_pool2d(whole, size)).clamp(-2, 2)
        psnr = 10 * (4 / error.square().mean((1, 2, 3))).log10()
        assert psnr.min() >= 20, f"{size}: {psnr.tolist()} dB"


def test_half_the_bits_draw_nearly_the_same_and_floats_go_in_and_out(generator, create):
    quick = create(torch.bfloat16)
    w = torch.lerp(generator.mean_latent, samples(generator, 1), 0.7)
    assert quick.mean_latent.dtype == quick.covariance.dtype == samples(quick, 1).dtype == torch.float32
    for size in generator.sizes:
        picture = draw(quick, w, size)
        assert picture.dtype == torch.float32
        psnr = 10 * (4 / (picture - draw(generator, w, size)).square().mean()).log10()
        assert psnr >= 36, f"{size}: {psnr} dB"


def test_half_the_bits_pass_a_gradient_of_whole_floats(create):
    quick = create(torch.bfloat16)
    w = samples(quick, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(quick.synthesize(w, quick.sizes[0]).square().mean(), w)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


# --- Slots --------------------------------------------------------------------------------------


def test_dead_slots_change_nothing(generator, sampled):
    w, whole = sampled
    moved = w.clone()
    moved[:, dead_layers(generator)] += 3
    assert torch.equal(draw(generator, moved, generator.sizes[-1]), whole)
    for size in generator.sizes[:-1]:
        assert torch.equal(draw(generator, moved, size), draw(generator, w, size))


def test_every_live_slot_changes_something(generator):
    w, other = samples(generator, 2)
    whole = draw(generator, w[None], generator.sizes[-1])
    for slot in generator.live_layers:
        moved = w.clone()
        moved[slot] = other[slot]
        assert (draw(generator, moved[None], generator.sizes[-1]) - whole).abs().mean() > 1e-4, slot


@pytest.mark.parametrize("which", [0, -1], ids=["smallest", "own"])
def test_a_gradient_reaches_the_live_slots_alone(generator, which):
    size = generator.sizes[which]
    w = samples(generator, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(generator.synthesize(w, size).square().mean(), w)
    assert gradient.isfinite().all()
    reached = gradient[0].abs().amax(1).nonzero().flatten().tolist()
    assert set(generator.expression_layers) <= set(reached) <= set(generator.live_layers)
    if which == -1:
        assert reached == sorted(generator.live_layers)


def test_weights_are_frozen(generator):
    picture = generator.synthesize(samples(generator, 1), generator.sizes[0])
    assert not picture.requires_grad


# --- Noise --------------------------------------------------------------------------------------


def test_noise_is_constant_unless_asked_for(create):
    generator = create()
    assert generator.noise == "const"
    assert "const" in generator.noises
    w = samples(generator, 1)
    pictures = {"const": draw(generator, w)}
    for noise in generator.noises[1:]:
        generator.noise = noise
        pictures[noise] = draw(generator, w)
        change = (pictures[noise] - pictures["const"]).abs().mean()
        assert 0 < change < 0.3
        assert torch.equal(draw(generator, w), pictures[noise]) is (noise != "random")


def test_another_noise_is_refused(name, store, monkeypatch, generator):
    monkeypatch.setattr(plugins.module("generators", name), "create", lambda *_: generator)
    with pytest.raises(UsageError, match=f"--noise loud: {name} has no such; choose from const"):
        generators.load(name, store, CPU, noise="loud")


# --- Tuning -------------------------------------------------------------------------------------


def test_it_is_tuned_to_a_picture_and_stays_as_it_was(generator, store):
    w, other = samples(generator, 2)
    size = generator.sizes[0]
    before, picture = draw(generator, w[None]), torch.lerp(*draw(generator, torch.stack([w, other])), 0.3)[None]
    options = TuneOptions(steps=5, map_steps=0, edits=1, seen=64, hold_seen=64, rate=0.0004, warm_up=0, pixels=50)
    found = tune(generator, load_vgg(store, CPU), picture, w, size, options)
    tuned = with_weights(generator, found.weights)
    assert (draw(tuned, w[None]) - picture).square().mean() < 0.95 * (before - picture).square().mean()
    assert torch.equal(draw(generator, w[None]), before)
    assert found.weights.keys() <= generator.weights().keys()
    assert not draw(tuned, w[None]).requires_grad


def test_maps_of_noise_are_weights_that_move_the_picture(generator):
    """Each is a square; together, raised by half of what features are, they are seen."""
    maps = generator.noise_maps()
    assert maps
    weights = generator.weights()
    for name, strength in maps.items():
        assert weights[name].shape[-1] == weights[name].shape[-2] >= 4
        assert weights[name].numel() == weights[name].shape[-1] ** 2
        assert strength > 0
    w = samples(generator, 1)
    before, twin = draw(generator, w), generator.copied()
    with torch.no_grad():
        for name, strength in maps.items():
            twin.weights()[name].add_(0.5 / strength)
    assert (draw(twin, w) - before).abs().mean() > 0.01
    assert torch.equal(draw(generator, w), before)
