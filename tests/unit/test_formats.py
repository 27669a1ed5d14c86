"""Every layout of a StyleGAN's file gives the same numbers, and what is none of them is told in one line."""

import json
import pickle
from dataclasses import replace

import pytest
import stylegans
import torch
from safetensors.torch import save_file

from reenact import checkpoints, formats, generators
from reenact.errors import UsageError, WeightsError
from reenact.weights import WeightStore

MEAN, MAPS = "mapping.w_avg", "noise_const"


@pytest.fixture(scope="module")
def one():
    return stylegans.random_checkpoint("stylegan1", 64, 8)


@pytest.fixture(scope="module")
def two():
    return stylegans.random_checkpoint("stylegan2", 64, 8)


def read(tmp_path, data):
    file = tmp_path / "a.file"  # the name tells nothing
    file.write_bytes(data)
    return formats.read(file)


def assert_same(found, wanted, without=""):
    names = {name for name in wanted.tensors if not (without and name.endswith(tuple(without.split())))}
    assert found.kind == wanted.kind
    assert set(found.tensors) == names
    for name in names:
        assert found.tensors[name].dtype == torch.float32
        assert found.tensors[name].shape == wanted.tensors[name].shape
        assert torch.allclose(found.tensors[name], wanted.tensors[name], rtol=0, atol=1e-6), name
    settings = ("mapping_rate", "clamp", "half_from", "fused_from", "exits")
    assert [getattr(found, name) for name in settings] == [getattr(wanted, name) for name in settings]


# --- Layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_tensorflow_pickles(tmp_path, one, two, protocol):
    for checkpoint in (one, two):
        found = read(tmp_path, stylegans.tf_pickle(checkpoint, protocol))
        assert_same(found, checkpoint)
        assert found.source["format"] == f"TensorFlow pickle, version {3 if checkpoint is one else 4}"


def test_a_network_alone_and_ada_in_tensorflow(tmp_path, two):
    assert_same(read(tmp_path, stylegans.pickled_networks(stylegans.tf_network(two))), two)
    data = stylegans.tf_pickle(two, version=5, conv_clamp=256, num_fp16_res=2, mapping_lrmul=0.02)
    assert_same(read(tmp_path, data), replace(two, clamp=256.0, half_from=32, mapping_rate=0.02))


@pytest.mark.parametrize(("given", "first"), [("auto", 128), (True, 8), (False, 2048)])
def test_where_stylegan1_fuses_its_upsampling(tmp_path, one, given, first):
    data = stylegans.tf_pickle(one, fused_scale=given)
    assert_same(read(tmp_path, data), replace(one, fused_from=first))


def test_tensorflow_flips_and_shifts_what_stylegan2_needs(tmp_path, two):
    """The file's numbers against ours by index: flipped where it upsamples, and 1 on what modulates."""
    synthesis = stylegans.tf_network(two).state["components"]["synthesis"].state["variables"]
    file, t = dict(synthesis), read(tmp_path, stylegans.tf_pickle(two)).tensors
    for y, x, into, out in [(0, 1, 2, 3), (2, 0, 5, 1)]:
        assert t["synthesis.b8.conv0.weight"][out, into, y, x] == file["8x8/Conv0_up/weight"][2 - y, 2 - x, into, out]
        assert t["synthesis.b8.conv1.weight"][out, into, y, x] == file["8x8/Conv1/weight"][y, x, into, out]
        assert t["synthesis.b8.conv0.affine.weight"][into, out] == file["8x8/Conv0_up/mod_weight"][out, into]
    assert t["synthesis.b8.conv0.affine.bias"][3] == file["8x8/Conv0_up/mod_bias"][3] + 1
    assert t["synthesis.b8.torgb.affine.bias"][3] == file["8x8/ToRGB/mod_bias"][3] + 1


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("repository", ["ada", "stylegan3"])
def test_persistence_pickles(tmp_path, two, protocol, repository):
    trained_in_half = replace(two, clamp=256.0, half_from=16)
    found = read(tmp_path, stylegans.persistence_pickle(trained_in_half, protocol, repository))
    assert_same(found, trained_in_half)
    assert_same(read(tmp_path, stylegans.persistence_pickle(two, protocol, repository)), two)


def test_a_persistent_generator_alone(tmp_path, two):
    assert_same(read(tmp_path, stylegans.pickled_modules(stylegans.persistent_generator(two))), two)


@pytest.mark.parametrize("zipped", [True, False], ids=["newer", "older"])
def test_rosinalitys_files(tmp_path, two, zipped):
    state, mean = stylegans.rosinality_state(two), two.tensors[MEAN]
    other = {name: x + 1 for name, x in state.items()}
    optimiser = {"state": {0: {"step": 3, "exp_avg": torch.zeros(5)}}, "param_groups": [{"lr": 0.002, "params": [0]}]}
    full = {"g": other, "d": {"final_conv.0.weight": torch.zeros(2)}, "g_ema": state, "g_optim": optimiser}
    assert_same(read(tmp_path, stylegans.torch_saved({**full, "latent_avg": mean}, zipped)), two)
    assert_same(read(tmp_path, stylegans.torch_saved({"g_ema": state}, zipped)), two, without=MEAN)
    assert_same(read(tmp_path, stylegans.torch_saved(state, zipped)), two, without=MEAN)
    older = {name: x for name, x in state.items() if not name.startswith("noises.")}
    assert_same(read(tmp_path, stylegans.torch_saved({"g_ema": older}, zipped)), two, without=f"{MEAN} {MAPS}")


@pytest.mark.parametrize("zipped", [True, False], ids=["newer", "older"])
def test_the_torch_conversion_of_stylegan1(tmp_path, one, zipped):
    data = stylegans.torch_saved(stylegans.lernapparat_state(one), zipped)
    assert_same(read(tmp_path, data), one, without=f"{MEAN} {MAPS}")


# --- Our own ------------------------------------------------------------------------------------


def test_conversion_keeps_the_pictures_and_tells_where_they_came_from(tmp_path, one, two):
    for checkpoint in (one, replace(two, clamp=256.0)):
        source, out = tmp_path / "in.pkl", tmp_path / "out.safetensors"
        source.write_bytes(stylegans.tf_pickle(checkpoint, **({"conv_clamp": 256} if checkpoint.clamp else {})))
        generators.convert(source, out)
        found = formats.read(out)
        assert found.source["file"] == "in.pkl"
        assert found.source["format"].startswith("TensorFlow pickle")
        assert len(bytes.fromhex(found.source["sha256"])) == 32
        assert found.exits == ()
        direct = generators.load(str(source), WeightStore(tmp_path), stylegans.CPU)
        again = generators.load(str(out), WeightStore(tmp_path), stylegans.CPU)
        w = direct.map(torch.randn(1, 512))[:, None].expand(-1, direct.num_layers, -1)
        assert torch.equal(direct.synthesize(w, 64), again.synthesize(w, 64))
        assert torch.equal(direct.mean_latent, again.mean_latent)
        assert torch.equal(direct.covariance, again.covariance)
        assert {file.name for file in tmp_path.iterdir()} == {"in.pkl", "out.safetensors"}


def test_early_exits_are_measured_once(tmp_path):
    checkpoint = stylegans.random_checkpoint("stylegan2", 256, 8)
    (tmp_path / "in.pt").write_bytes(stylegans.torch_saved({"g_ema": stylegans.rosinality_state(checkpoint)}))
    written = generators.convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert written.exits == formats.read(tmp_path / "out.safetensors").exits == (128,)
    direct, again = (stylegans.build(formats.read(tmp_path / name)) for name in ("in.pt", "out.safetensors"))
    w = direct.mean_latent[None]
    assert torch.equal(direct.synthesize(w, 128), again.synthesize(w, 128))


def test_an_earlier_file_stays_where_the_new_one_can_not_be_read(tmp_path):
    (tmp_path / "in.pkl").write_bytes(b"\x80\x04N.")
    (tmp_path / "out.safetensors").write_bytes(b"earlier")
    with pytest.raises(WeightsError, match=r"in\.pkl: holds no generator"):
        generators.convert(tmp_path / "in.pkl", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == b"earlier"


# --- What is none of them -----------------------------------------------------------------------


def complaint(tmp_path, data):
    with pytest.raises(WeightsError) as error:
        read(tmp_path, data)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'a.file'}: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_web_page(tmp_path):
    page = b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"
    assert "is a web page, not a network" in complaint(tmp_path, page)


def test_stylegan3(tmp_path):
    data = stylegans.pickled_modules({"G_ema": stylegans.stylegan3_generator()})
    assert "StyleGAN3-T or -R" in complaint(tmp_path, data)


def test_a_discriminator_alone(tmp_path):
    files = [
        stylegans.pickled_networks(stylegans.tf_discriminator()),
        stylegans.pickled_modules(stylegans.persistent_discriminator()),
        stylegans.pickled_modules({"D": stylegans.persistent_discriminator()}),
        stylegans.torch_saved({"d": {"final_conv.0.weight": torch.zeros(2)}}),
        stylegans.torch_saved({"final_conv.0.weight": torch.zeros(2)}),
    ]
    for data in files:
        assert "holds a discriminator and no generator" in complaint(tmp_path, data)


def test_a_generator_that_was_not_averaged(tmp_path, two):
    data = stylegans.torch_saved({"g": stylegans.rosinality_state(two)})
    assert "no averaged generator (g_ema)" in complaint(tmp_path, data)


@pytest.mark.parametrize("kind", ["stylegan1", "stylegan2"])
def test_another_resolution(tmp_path, kind):
    small = stylegans.random_checkpoint(kind, 32, 4)
    assert "makes pictures of 32x32; known are powers of 2 from 64 to 1024" in complaint(
        tmp_path, stylegans.tf_pickle(small)
    )
    data = stylegans.tf_pickle(stylegans.random_checkpoint(kind, 64, 4), resolution=128)
    assert "says that it makes pictures of 128x128, but its layers make 64x64" in complaint(tmp_path, data)


def test_a_layer_that_is_missing_or_does_not_fit(tmp_path, two):
    state = stylegans.rosinality_state(two)
    less = {name: x for name, x in state.items() if name != "convs.3.conv.weight"}
    assert "lacks synthesis.b16.conv1.weight" in complaint(tmp_path, stylegans.torch_saved(less))
    short = {**state, "convs.2.activate.bias": torch.zeros(3)}
    assert "synthesis.b16.conv0.bias of the shape [3]; [8] would fit" in complaint(
        tmp_path, stylegans.torch_saved(short)
    )
    broken = {**state, "convs.2.activate.bias": torch.full((8,), torch.nan)}
    assert "not finite" in complaint(tmp_path, stylegans.torch_saved(broken))


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"architecture": "resnet"}, "architecture = resnet; known is skip"),
        ({"resample_kernel": [1, 2, 1]}, "resample_kernel"),
        ({"label_size": 10}, "label_size = 10"),
        ({"mapping_nonlinearity": "relu"}, "mapping_nonlinearity = relu"),
    ],
)
def test_settings_that_need_other_arithmetic(tmp_path, two, told, said):
    assert said in complaint(tmp_path, stylegans.tf_pickle(two, **told))


def test_another_filter(tmp_path, two):
    state = stylegans.rosinality_state(two)
    state["convs.0.conv.blur.kernel"] = torch.ones(4, 4) / 4
    assert "resampling filter" in complaint(tmp_path, stylegans.torch_saved(state))


def test_the_same_numbers_under_every_name(tmp_path, two):
    """A small file may not become a large network."""
    wide = torch.randn(1, 1, 1024, 1024)
    state = {
        name: wide.as_strided(wide.shape, wide.stride())
        for name in stylegans.rosinality_state(two)
        if "kernel" not in name
    }
    assert "claims more than it holds" in complaint(tmp_path, stylegans.torch_saved(state))


def test_another_safetensors_file(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "a.file")
    assert "is not one of the safetensors files" in complaint(tmp_path, (tmp_path / "a.file").read_bytes())
    about = {"kind": "stylegan9", "mapping_rate": 1, "clamp": None, "half_from": 0, "fused_from": 0, "exits": None}
    save_file({"x": torch.zeros(2)}, tmp_path / "a.file", {"reenact": json.dumps({**about, "source": {}})})
    assert "'stylegan9'" in complaint(tmp_path, (tmp_path / "a.file").read_bytes())


def test_our_own_file_with_readouts_that_do_not_fit(tmp_path):
    checkpoint = stylegans.build(stylegans.random_checkpoint("stylegan2", 256, 4)).measured()
    assert checkpoint.exits == (128,)
    for name, value, said in [
        ("exits.128", torch.zeros(5, 3), "has exits.128 of the shape [5, 3]; [4, 3] would fit"),
        ("mapping.w_covariance", torch.zeros(3), "has mapping.w_covariance of the shape [3]"),
        ("exits.128", None, "lacks exits.128"),
    ]:
        tensors = {key: x for key, x in {**checkpoint.tensors, name: value}.items() if x is not None}
        checkpoints.save(replace(checkpoint, tensors=tensors), tmp_path / "a.file")
        assert said in complaint(tmp_path, (tmp_path / "a.file").read_bytes())


def test_our_own_file_cut_short(tmp_path, two):
    checkpoints.save(two, tmp_path / "a.file")
    data = (tmp_path / "a.file").read_bytes()
    for length in (12, 2000, len(data) - 1):
        complaint(tmp_path, data[:length])


def test_what_a_pickle_may_hold_that_is_no_network(tmp_path):
    for data in (None, 3, [1], {"g_ema": {}}, {"G_ema": 3}, (1, 2, 3), {"a": {"b": "c"}}, {}):
        complaint(tmp_path, pickle.dumps(data))


def test_objects_whose_state_is_not_what_it_should_be(tmp_path):
    network = stylegans.tf_network(stylegans.random_checkpoint("stylegan2", 64, 4))
    for name, value in (("variables", 3), ("variables", [(1, 2, 3)]), ("components", []), ("static_kwargs", None)):
        network.state = {**stylegans.tf_network(stylegans.random_checkpoint("stylegan2", 64, 4)).state, name: value}
        complaint(tmp_path, stylegans.pickled_networks(network))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.pkl: no such file, and no such name.*mobile, stylegan1, stylegan2"):
        generators.load(str(tmp_path / "nothing.pkl"), WeightStore(tmp_path), stylegans.CPU)
    with pytest.raises(WeightsError, match="can't be read"):
        formats.read(tmp_path)
