"""Where the networks run."""

from __future__ import annotations

import torch

from .errors import UsageError


def quick_dtype(device: torch.device) -> torch.dtype:
    """Half the bits where a device computes in them: twice as fast, half the memory; else single precision."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    # A processor without such instructions imitates them slowly. torch has no public question for it.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if device.type == "cpu" and asked() else torch.float32


def choose_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps' -> a device that is there.

    Raises:
        UsageError: it is not there, or no such name.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not available here; use auto, cpu, cuda, cuda:N or mps") from error
    return device
