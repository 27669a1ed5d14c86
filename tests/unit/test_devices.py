"""Where networks run, and in how many bits."""

from contextlib import nullcontext

import pytest
import torch

from reenact.devices import choose_device, quick_dtype
from reenact.errors import UsageError


def test_a_processor_takes_half_the_bits_if_it_computes_in_them(monkeypatch):
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native, raising=False)
        assert quick_dtype(torch.device("cpu")) == expected


def test_a_torch_that_cannot_tell_gives_whole_floats(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert quick_dtype(torch.device("cpu")) == torch.float32


def test_a_gpu_takes_half_the_bits_if_it_computes_in_them(monkeypatch):
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native, **_: native)
        monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
        assert quick_dtype(torch.device("cuda")) == expected


def test_other_devices_take_whole_floats():
    assert quick_dtype(torch.device("mps")) == torch.float32


def test_a_device_is_chosen_that_is_there():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("cuda:99", "abacus"):
        with pytest.raises(UsageError, match=f"{name}.*auto"):
            choose_device(name)
