"""The machine: devices, a seed for each purpose, a clock that waits for the device, peak memory, the environment."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .errors import BadSetting


def resolve_device(name: str | None = None) -> str:
    """A torch device name: the one asked for, else EVALKIT_DEVICE, else cuda, mps or cpu, whichever is there.

    Raises BadSetting when the device asked for is not on this machine.
    """
    import torch

    wanted = name or os.environ.get("EVALKIT_DEVICE")
    have = ["cpu"]
    if torch.backends.mps.is_available():
        have.insert(0, "mps")
    if torch.cuda.is_available():
        have.insert(0, "cuda")
    if not wanted:
        return have[0]
    if wanted.split(":")[0] not in have:
        raise BadSetting(f"device {wanted!r} is not on this machine; available: {', '.join(have)}")
    return wanted


def device_label(device: str) -> str:
    """The device in words, as timings name it: the GPU's own name, or the processor and its thread count."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    if device == "mps":
        return f"Apple {platform.machine()} GPU"
    return f"{_processor()} ({torch.get_num_threads()} threads)"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def derive_seed(seed: int, *purpose: str) -> int:
    """A seed in [0, 2^31) for one purpose, so that two uses of one user's seed are independent."""
    text = "/".join((str(seed), *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one CPU thread inside the block.

    Networks for small images are made of operations of some microseconds: a second thread gains nothing on an idle
    machine, and on a busy one every operation waits for it.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given: without it a GPU's timing measures the launch only."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def now(device: str) -> float:
    """Seconds of a monotonic clock, read after the device has finished."""
    synchronise(device)
    return time.perf_counter()


def reset_peak(device: str) -> None:
    """Start a new peak-memory reading where the device keeps one."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: str) -> int:
    """Peak bytes: of the device's allocator on cuda, else of this process since it started."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def joules(device: str) -> float | None:
    """A reading of the machine's energy meter in joules, of use only as a difference; None where there is no meter.

    On cuda the GPU's own meter (NVML), elsewhere the processor packages' (RAPL): both count the idle machine too.
    """
    try:
        return _gpu_joules(device) if device.startswith("cuda") else _package_joules(Path("/sys/class/powercap"))
    except (OSError, ValueError):
        return None


def _gpu_joules(device: str) -> float | None:
    try:
        import pynvml
    except ImportError:
        return None
    import torch

    try:
        pynvml.nvmlInit()
        # By uuid: CUDA_VISIBLE_DEVICES renumbers torch's devices, not NVML's.
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except pynvml.NVMLError:
        return None


def _package_joules(meters: Path) -> float | None:
    """The sum over processor packages; their parts (`intel-rapl:0:1`) are in it already."""
    packages = [p for p in meters.glob("*-rapl:*") if p.name.count(":") == 1]
    if not packages:
        return None
    return sum(int((p / "energy_uj").read_text("ascii")) for p in packages) / 1e6


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whichever device."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def environment(device: str) -> dict[str, Any]:
    """What produced a number: versions, commit, whether the tree was dirty, device."""
    import torch

    commit, dirty = _commit()
    found: dict[str, Any] = {
        "evalkit": _version("evalkit"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "scipy": _version("scipy"),
        "scikit-learn": _version("scikit-learn"),
        "pillow": _version("pillow"),
        "device": device_label(device),
    }
    if commit:
        found["commit"], found["dirty"] = commit, dirty
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "uninstalled"


def _commit() -> tuple[str, bool]:
    """Commit of the source tree this package runs from, when it is one."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "", False
    try:
        run = ["git", "-C", str(root)]
        head = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        status = subprocess.run(
            [*run, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "", False
    return head.stdout.strip(), bool(status.stdout.strip())
