"""The map from expressions to latents, as a file and as a function."""

import torch
from safetensors.torch import save_file

from reenact.expression import LIMITS, NAMES
from reenact.mapper import ASKED, LatentMapper


def made(slots=3):
    torch.manual_seed(0)
    made = LatentMapper(slots, hidden=16)
    made.centre.copy_(torch.randn(len(ASKED)) * 0.1)
    made.spread.copy_(0.1 + torch.rand(len(ASKED)) * 0.1)
    return made.requires_grad_(False)


def test_changes_have_a_row_for_each_slot():
    assert made()(torch.zeros(len(NAMES))).shape == (3, 512)
    assert made()(torch.zeros(5, len(NAMES))).shape == (5, 3, 512)


def test_what_depends_on_the_shape_of_a_face_changes_nothing():
    one, other = torch.zeros(len(NAMES)), torch.zeros(len(NAMES))
    for name in ("mouth width", "jaw", "corner left", "brow left", "upper lip", "eyeLookUpLeft"):
        other[NAMES.index(name)] = 0.5
    assert torch.equal(made()(one), made()(other))
    for name in ("lips open", "mouth dark", "jawOpen", "mouthSmileLeft", "browInnerUp"):
        moved = one.clone()
        moved[NAMES.index(name)] = 0.3
        assert not torch.equal(made()(one), made()(moved)), name


def test_expressions_beyond_all_that_was_learnt_are_taken_for_the_nearest():
    far, farther = torch.zeros(len(NAMES)), torch.zeros(len(NAMES))
    far[NAMES.index("lips open")], farther[NAMES.index("lips open")] = 5.0, 50.0
    assert torch.equal(made()(far), made()(farther))
    far[NAMES.index("jawOpen")], farther[NAMES.index("jawOpen")] = LIMITS[1], 4.0
    assert torch.equal(made()(far), made()(farther))


def test_a_file_gives_the_same_map(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({name: value.contiguous() for name, value in made().state_dict().items()}, path)
    seen = torch.randn(4, len(NAMES)) * 0.2
    assert torch.equal(LatentMapper.load(path)(seen), made()(seen))
