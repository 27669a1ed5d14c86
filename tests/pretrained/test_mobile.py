"""MobileStyleGAN in torch is the graph that the package ships."""

import numpy as np
import pytest
import torch

from reenact.errors import WeightsError
from reenact.generators.mobile import (
    SLOTS,
    haar_downsample,
    haar_upsample,
    in_blocks,
    live_slots,
    load_networks,
    read_constants,
)

pytestmark = pytest.mark.pretrained


@pytest.fixture(scope="module")
def networks(store):
    return load_networks(store)


@pytest.fixture(scope="module")
def originals(store):
    """The mapping and the synthesis of the package, run by OpenVINO in fp32: array -> array."""
    openvino = pytest.importorskip("openvino", reason="compares with OpenVINO, which is in the test extra")

    def compiled(part):
        paths = (store.path(f"mobilestylegan-{part}.{suffix}") for suffix in ("xml", "bin"))
        model = openvino.Core().compile_model(
            openvino.Core().read_model(*paths), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        return lambda values: model([values])[model.output(0)]

    return compiled("mapping"), compiled("synthesis")


@pytest.mark.parametrize("seed", [0, 1])
def test_mapping_and_synthesis_equal_the_originals(networks, originals, seed):
    z = np.random.default_rng(seed).normal(size=(1, 512)).astype(np.float32)
    expected_w = originals[0](z)
    expected = originals[1](expected_w)
    with torch.inference_mode():
        w = networks[0](torch.from_numpy(z))
        picture = networks[1](torch.from_numpy(expected_w)[:, None].expand(-1, SLOTS, -1))
    assert np.abs(w.numpy() - expected_w).max() < 1e-3
    assert picture.shape == (1, 3, 1024, 1024)
    assert np.abs(picture.numpy() - expected).max() < 1e-3


def test_slots_without_an_image_head_are_known_to_do_nothing():
    assert [slot for slot in range(SLOTS) if slot not in live_slots()] == [3, 6, 9, 12, 15, 18, 22]


# --- The Haar transform -------------------------------------------------------------------------


def test_down_undoes_up_and_up_undoes_down():
    x = torch.randn(2, 12, 6, 10, generator=torch.Generator().manual_seed(0))
    assert haar_upsample(x).shape == (2, 3, 12, 20)
    assert haar_downsample(haar_upsample(x)) == pytest.approx(x, abs=1e-6)
    y = haar_upsample(x)
    assert haar_upsample(haar_downsample(y)) == pytest.approx(y, abs=1e-6)


@pytest.mark.parametrize(
    ("band", "square"),
    [(0, [[1, 1], [1, 1]]), (1, [[1, 1], [-1, -1]]), (2, [[1, -1], [1, -1]]), (3, [[1, -1], [-1, 1]])],
    ids=["low-pass", "LH", "HL", "HH"],
)
def test_each_band_is_its_pattern(band, square):
    x = torch.zeros(1, 4, 1, 1)
    x[:, band] = 2
    assert haar_upsample(x)[0, 0].tolist() == square


def test_a_file_has_the_high_bands_of_a_channel_beside_each_other():
    filed = torch.zeros(8, 1, 1)  # low 0, low 1, then LH, HL, HH of channel 0, then of channel 1
    filed[5] = 2
    assert haar_upsample(in_blocks(filed)[None])[0].tolist() == [[[0, 0], [0, 0]], [[1, 1], [-1, -1]]]
    assert in_blocks(torch.arange(12)).tolist() == [0, 1, 2, 3, 6, 9, 4, 7, 10, 5, 8, 11]


def test_where_a_gradient_is_wanted_the_transform_is_the_same():
    x = torch.randn(2, 12, 6, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        at_once = haar_upsample(x)
    assert torch.equal(haar_upsample(x), at_once)
    y = x.double().requires_grad_()
    assert torch.autograd.gradcheck(haar_upsample, y)


def test_channels_that_come_last_stay_last():
    x = torch.randn(2, 12, 6, 10).contiguous(memory_format=torch.channels_last)
    assert haar_upsample(x).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(haar_upsample(x), haar_upsample(x.contiguous()))


# --- Files --------------------------------------------------------------------------------------


NO_GRAPHS = ["", "<html>quota exceeded</html", '<net><layer type="Const"><data shape="2"/></layer></net>']


@pytest.mark.parametrize("text", NO_GRAPHS)
def test_a_file_that_is_no_graph_is_refused_by_its_name(tmp_path, text):
    xml, data = tmp_path / "a.xml", tmp_path / "a.bin"
    xml.write_text(text)
    data.touch()
    with pytest.raises(WeightsError, match=r"a\.xml: not the OpenVINO file"):
        list(read_constants(xml, data))
