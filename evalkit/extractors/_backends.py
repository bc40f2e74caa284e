"""Who does a network's arithmetic on a CPU: torch, OpenVINO or ONNX Runtime, each made from the one torch network.

A row is the same to 1e-5 whoever makes it, so a backend is no part of an instrument's identity: records name it under
their environment. EVALKIT_BACKEND chooses: `torch`, `openvino`, `onnx`, or `auto`. With `auto` torch begins, and when
it has worked for a minute, whatever is installed is tried against it; with `torch` a row has the same bits in each run.
"""

from __future__ import annotations

import io
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ..errors import BadSetting, RunFailed, UnknownName

# Images float32 [B, 3, H, W] on the CPU -> rows float32 [B, D].
Run: TypeAlias = Callable[[Tensor], Tensor]

VARIABLE = "EVALKIT_BACKEND"
# The largest difference from torch's rows, relative to the largest value, that a backend may have.
AGREEMENT = 1e-5
# Converting and trying costs about 10 s on one core and saves about a sixth of every second after it.
PAYS_AFTER = 60.0
# Images of a trial: runtimes are tuned for batches, and fewer would time something else.
TRIAL = 8
ROUNDS = 2
# A gain below a tenth is not worth other last digits; and noise must not choose between equals, run by run.
TIE = 1.1


def openvino_run(network: nn.Module, images: Tensor) -> Run:
    """The network in OpenVINO, float32, on as many threads as torch has. images: an example of its input, any B."""
    # Importing OpenVINO and converting with it reports to its makers, unless the package that sends is not to be had.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    with quiet():
        # Traced here because OpenVINO would have torch check the trace: three times the seconds, and rows are compared.
        traced = torch.jit.trace(network, images[:1], check_trace=False)  # type: ignore[no-untyped-call]
        model = openvino.convert_model(traced, example_input=images[:1], input=[-1, *images.shape[1:]])
    settings = {
        # One request at a time with all threads, as torch works; streams side by side would need several requests.
        "PERFORMANCE_HINT": "LATENCY",
        # A CPU that has bfloat16 would use it, and give features that are good to two digits.
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled(images.contiguous().numpy())[0].copy())

    return run


def onnx_run(network: nn.Module, images: Tensor) -> Run:
    """The network in ONNX Runtime, on as many threads as torch has. images: an example of its input, any B."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    file = io.BytesIO()
    with quiet():
        # The exporter by tracing: it needs 2 s where the one by torch.export needs 13 and two more packages.
        torch.onnx.export(
            network,
            (images[:1],),
            file,  # type: ignore[arg-type]
            dynamo=False,
            input_names=["images"],
            output_names=["rows"],
            dynamic_axes={"images": {0: "batch"}, "rows": {0: "batch"}},
        )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.getvalue(), settings, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["rows"], {"images": images.contiguous().numpy()})[0])

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings: both converters trace, which torch announces will go, and tell of every traced branch."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True)
class Backend:
    """A runtime beside torch: the modules it needs, and what turns a network and an example of its input into a run."""

    modules: tuple[str, ...]
    make: Callable[[nn.Module, Tensor], Run]

    @property
    def is_installed(self) -> bool:
        return all(find_spec(module) for module in self.modules)


BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {"openvino": Backend(("openvino",), openvino_run), "onnx": Backend(("onnx", "onnxruntime"), onnx_run)}
)


def asked_for() -> str:
    """What EVALKIT_BACKEND asks for; raises UnknownName for another word, BadSetting for one that is not installed."""
    word = os.environ.get(VARIABLE, "").strip().lower() or "auto"
    if word not in ("auto", "torch", *BACKENDS):
        raise UnknownName(f"{VARIABLE} in the environment", word, ["auto", "torch", *BACKENDS])
    if word in BACKENDS and not BACKENDS[word].is_installed:
        raise BadSetting(
            f"{VARIABLE}={word} needs {' and '.join(BACKENDS[word].modules)}, not installed here; pip install"
            f" 'evalkit[{word}]', or take {VARIABLE}=torch"
        )
    return word


def candidates(word: str, device: str, *, exact: bool = True) -> dict[str, Backend]:
    """The backends to try beside torch for what was asked for: none on a GPU, or where rows are rounded on purpose.

    Raises BadSetting when a backend was asked for by name and cannot serve.
    """
    if word in BACKENDS and not (exact and device == "cpu"):
        reason = f"this run is on {device}" if exact else "this instrument computes in bfloat16"
        raise BadSetting(f"{VARIABLE}={word} computes in float32 on the CPU, and {reason}; take {VARIABLE}=torch")
    if not exact or device != "cpu":
        return {}
    if word != "auto":
        return {word: BACKENDS[word]} if word in BACKENDS else {}
    # Processes that share a set would each choose by their own clock, and rows would depend on how many there are.
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return {}
    return {name: backend for name, backend in BACKENDS.items() if backend.is_installed}


class Runner:
    """Rows of one network on the CPU by the backend asked for, or by the fastest that gives torch's rows.

    by_torch: the rows as torch makes them, which all others are held against. `used` names who made rows so far, in
    order; `refused` says of each backend that was tried in vain why.
    """

    def __init__(
        self,
        network: nn.Module,
        by_torch: Run,
        word: str,
        backends: Mapping[str, Backend],
        pays_after: float = PAYS_AFTER,
    ) -> None:
        self.used: list[str] = []
        self.refused: dict[str, str] = {}
        self._network = network
        self._by_torch = by_torch
        self._word = word
        self._backends = backends
        self._pays_after = pays_after
        self._seconds = 0.0
        self._chosen: tuple[str, Run] | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Rows [B, D]; RunFailed, at the first batch, when the backend asked for fails or gives other rows."""
        if self._chosen is None and self._is_time(images):
            self._chosen = self._choose(images[:TRIAL])
        # What was chosen was made for the CPU; the network may have gone to a GPU since.
        chosen = self._chosen if images.device.type == "cpu" else None
        name, run = chosen or ("torch", self._by_torch)
        began = time.perf_counter()
        rows = run(images)
        self._seconds += time.perf_counter() - began
        if name not in self.used:
            self.used.append(name)
        return rows

    def _is_time(self, images: Tensor) -> bool:
        if not self._backends or images.device.type != "cpu":
            return False
        return self._word != "auto" or (len(images) >= TRIAL and self._seconds >= self._pays_after)

    def _choose(self, images: Tensor) -> tuple[str, Run]:
        expected = self._by_torch(images)
        runs = {"torch": self._by_torch}
        for name, backend in self._backends.items():
            try:
                run = backend.make(self._network, images)
                difference = apart(run(images), expected)
            except Exception as error:  # Each runtime has errors of its own, and none of them may end a run on torch.
                self.refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                continue
            if difference <= AGREEMENT:
                runs[name] = run
            else:
                self.refused[name] = f"its rows are {difference:.1e} from torch's, relative to the largest value"
        if self._word in self.refused:
            raise RunFailed(f"backend {self._word} cannot be used ({self.refused[self._word]}); take {VARIABLE}=torch")
        name = self._word if self._word in runs else fastest(runs, images)
        return name, runs[name]


def apart(rows: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected value, >= 0; infinite for NaN or rows of other shape."""
    if rows.shape != expected.shape:
        return math.inf
    difference = float((rows - expected).abs().max() / expected.abs().max().clamp_min(1e-30))
    return math.inf if math.isnan(difference) else difference


def fastest(runs: Mapping[str, Run], images: Tensor, clock: Callable[[], float] = time.perf_counter) -> str:
    """The name of the fastest run on these images, or the first of those that need at most a tenth more."""
    best = dict.fromkeys(runs, math.inf)
    for _ in range(ROUNDS):
        # In turns: what else the machine does in a moment hits all alike.
        for name, run in runs.items():
            began = clock()
            run(images)
            best[name] = min(best[name], clock() - began)
    limit = TIE * min(best.values())
    return next(name for name, seconds in best.items() if seconds <= limit)
