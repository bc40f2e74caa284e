"""A published network: a weight file known by its digest, and arithmetic in float32 whatever the caller has set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RunFailed
from ..weights import Weights, digest_of_file, load_weights, obtain


class Checkpoint:
    """The weight file of one network: a recorded one, or else one that nobody pinned, known by what it turns out to be.

    record: the pinned file; path: where the user has it; locate: finds an unpinned file, called by `fetch` alone.
    """

    def __init__(
        self, name: str, record: Weights | None, path: Path | None = None, locate: Callable[[], Path] | None = None
    ) -> None:
        self.name = name
        self.record = record
        self._path = path
        self._locate = locate
        self._found: tuple[Path, str] | None = None

    def fetch(self) -> Path:
        """The file on this machine, downloaded if need be; RunFailed, one line, when it cannot be had."""
        if self._found is None:
            path = self._obtained()
            self._found = path, digest_of_file(path)
        return self._found[0]

    def _obtained(self) -> Path:
        if self.record is not None:
            return obtain(self.record, self._path)
        if self._path is not None:
            if not self._path.is_file():
                raise RunFailed(f"weights of {self.name}: no file {self._path}")
            return self._path
        if self._locate is None:
            raise RunFailed(f"{self.name} has no published weight file; hand in its path")
        return self._locate()

    @property
    def sha256(self) -> str:
        """Hex digest of the whole file; RunFailed before `fetch` where no record says it."""
        if self._found is not None:
            return self._found[1]
        if self.record is not None and len(self.record.sha256) == 64:
            return self.record.sha256
        raise RunFailed(f"the weights of {self.name} are not pinned: their digest is known once they are fetched")

    @property
    def about(self) -> dict[str, str]:
        """File and digest in words, as far as they are known."""
        if self.record is not None:
            return {
                "weights file": self.record.file,
                "weights sha256": self.sha256 if self._found else self.record.sha256,
                "weights licence": self.record.licence,
                "trained on": self.record.trained_on,
            }
        if self._found is None:
            return {"weights sha256": "not pinned; known once they are fetched"}
        return {"weights file": self._found[0].name, "weights sha256": f"{self._found[1]} (not pinned)"}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the file by name, on the CPU, as stored; raises as `load_weights` does."""
        path = self.fetch()
        return load_weights(self.record or Weights(path.name, self.sha256, "", "", url=str(path)), path)


def hub_file(repository: str, file: str) -> Path:
    """A file of the Hugging Face hub, from its cache or downloaded into it; RunFailed, one line, when it cannot be."""
    from huggingface_hub import hf_hub_download

    offline = os.environ.get("EVALKIT_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on")
    try:
        return Path(hf_hub_download(repository, file, local_files_only=offline))
    except Exception as error:  # The hub client raises errors of four libraries.
        switched = " with the network switched off (EVALKIT_OFFLINE)" if offline else ""
        raise RunFailed(
            f"weights {file} of https://huggingface.co/{repository} are not on this machine and could not be fetched"
            f"{switched} ({type(error).__name__}); fetch them there with `hf download {repository} {file}`"
        ) from error


def loaded(name: str, network: torch.nn.Module, tensors: dict[str, Tensor]) -> torch.nn.Module:
    """The network (it may be on meta) with these tensors, in float32, for inference; RunFailed unless all fit."""
    try:
        network.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, assign=True)
    except RuntimeError as error:
        raise RunFailed(f"the weight file does not fit {name}: {' '.join(str(error).split())[:300]}") from error
    return network.eval().requires_grad_(False)


@contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Inference in float32 proper: no autocast, no TF32 in convolutions or products, whatever is set outside.

    On a GPU both are easily on (TF32 convolutions by default), and a feature is then good to three digits only.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    uncast = torch.autocast(device.type, enabled=False) if device.type in ("cpu", "cuda") else nullcontext()
    try:
        with torch.no_grad(), uncast, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
