"""The random numbers a watermark is keyed by: torch's generators on both devices, and which of them can be told here.

The same seed gives other numbers on a CPU (Mersenne Twister) than on a CUDA device (Philox4x32-10), so the device of
the generator is part of a key. Of what CUDA draws, SynthID's table is computed here on any machine: Philox is counter
based (Salmon et al. 2011, section 3.3), and `torch.randint` gives word j of counter i to element i + j * threads.
What else is drawn on CUDA (permutations, uniform rows) needs a CUDA device to be drawn again.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..errors import BadSetting, RunFailed

Device: TypeAlias = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("cpu", "cuda")

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF
# Threads times four words of one launch: up to here every element is the word of exactly one counter.
LARGEST_TABLE = 65536
WORDS = 4


def philox(counters: npt.NDArray[np.uint64], key: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """Philox4x32-10 of counters [N, 4]: four 32-bit words each, as uint64 [N, 4]. Salmon et al. 2011, section 3.3."""
    x = counters.astype(np.uint64)
    low, high = key
    word, half = np.uint64(WORD), np.uint64(32)
    for _ in range(ROUNDS):
        first, second = x[:, 0] * np.uint64(MULTIPLIERS[0]), x[:, 2] * np.uint64(MULTIPLIERS[1])
        x = np.stack(
            [
                (second >> half) ^ x[:, 1] ^ np.uint64(low),
                second & word,
                (first >> half) ^ x[:, 3] ^ np.uint64(high),
                first & word,
            ],
            axis=1,
        )
        low, high = (low + WEYL[0]) & WORD, (high + WEYL[1]) & WORD
    return x


def cuda_bits(size: int, seed: int) -> npt.NDArray[np.uint8]:
    """What `torch.randint(0, 2, (size,), device="cuda")` gives first after `manual_seed(seed)`, uint8 [size].

    Raises BadSetting unless size is a multiple of four and at most 65536: beyond, the layout depends on the device.
    """
    if not 0 < size <= LARGEST_TABLE or size % WORDS:
        raise BadSetting(f"a CUDA table of {size} bits; expected a multiple of {WORDS} up to {LARGEST_TABLE}")
    threads = size // WORDS
    counters = np.zeros((threads, 4), np.uint64)
    counters[:, 2] = np.arange(threads)
    words = philox(counters, (seed & WORD, seed >> 32 & WORD))
    return (words.T.reshape(-1) % np.uint64(2)).astype(np.uint8)


def bits(size: int, seed: int, device: Device) -> npt.NDArray[np.uint8]:
    """`torch.randint(0, 2, (size,))` of a generator on `device` after `manual_seed(seed)`, uint8 [size]."""
    if device == "cuda":
        return cuda_bits(size, seed)
    drawn = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(seed))
    return drawn.numpy().astype(np.uint8)


def generator(device: Device) -> torch.Generator:
    """A generator on the key's device; RunFailed where the key needs CUDA and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RunFailed(
            "the key's random numbers were drawn on a CUDA device and this machine has none: the same seed gives others"
            " on a CPU; run this on a machine with CUDA"
        )
    return torch.Generator(device)
