"""A device that is not there: tensors that compute on the CPU, say they lie elsewhere, and refuse what a GPU refuses.

Inside `pretending()` every call of torch is looked at before it is made. Tensors sent to the pretended device stay
there until they are sent back; together with a CPU tensor that has dimensions, or handed to numpy, they raise as CUDA's
do. Values are those of the CPU, so control flow that depends on data runs as it would.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("cuda")


class MixedDevices(RuntimeError):
    """What a GPU would have refused."""


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def there(tensor):
    """The tensor on the pretended device."""
    return torch.Tensor._make_subclass(Elsewhere, tensor) if type(tensor) is torch.Tensor else tensor


def here(tensor):
    """Its values on the CPU."""
    return torch.Tensor.as_subclass(tensor, torch.Tensor) if isinstance(tensor, Elsewhere) else tensor


def _is_device(value):
    return isinstance(value, torch.device) or (isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda"))


def _destination(args, kwargs):
    """The device that a call names, itself or by a tensor to go to; None when it names none."""
    for value in (*args, *kwargs.values()):
        if _is_device(value):
            return torch.device(value)
    return None


class _Watch(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        away = any(isinstance(t, Elsewhere) for t in given)
        attribute = getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else ""
        if attribute == "device":
            return DEVICE if away else torch.device("cpu")
        if attribute in ("is_cuda", "is_cpu"):
            return away == (attribute == "is_cuda")
        if away and name in ("numpy", "__array__"):
            raise MixedDevices("numpy reads CPU tensors only")
        goal = _destination(args, kwargs)
        if name == "to" and goal is None and len(given) > 1:
            goal = DEVICE if isinstance(given[1], Elsewhere) else torch.device("cpu")
        elif name == "cpu":
            goal = torch.device("cpu")
        elif name not in ("to", "copy_"):
            self._refuse_mixed(name, args, given)
        generator = kwargs.get("generator")
        if generator is not None and goal is not None and goal.type != generator.device.type:
            raise MixedDevices(f"{name}: a {generator.device} generator cannot draw on {goal}")
        args, kwargs = tree_map(here, (args, kwargs))
        args = tuple(torch.device("cpu") if _is_device(a) else a for a in args)
        kwargs = {k: torch.device("cpu") if _is_device(v) else v for k, v in kwargs.items()}
        found = func(*args, **kwargs)
        stays = away if goal is None else goal.type == DEVICE.type
        return tree_map(there, found) if stays else found

    @staticmethod
    def _refuse_mixed(name, args, given):
        if name == "__getitem__":
            # A GPU tensor may be indexed from the CPU, and not the other way round.
            if not isinstance(args[0], Elsewhere) and any(isinstance(t, Elsewhere) for t in given):
                raise MixedDevices("a CPU tensor is indexed by one that lies elsewhere")
            return
        if name == "__setitem__":
            if not any(isinstance(t, torch.Tensor) for t in tree_flatten(args[1])[0]):
                return  # a copy into a slice may cross over
            given = [args[0], *(t for t in given[1:] if t is args[-1] and t.dim())]
        shaped = [t for t in given if t.dim()] or given
        if len({isinstance(t, Elsewhere) for t in shaped}) > 1 or (
            # A number on the CPU goes along; one that lies elsewhere does not.
            any(isinstance(t, Elsewhere) for t in given) and not any(isinstance(t, Elsewhere) for t in shaped)
        ):
            raise MixedDevices(f"{name}: tensors on the CPU and elsewhere")


@contextmanager
def pretending():
    """Inside, tensors moved to "cuda" lie on a device that is not there."""
    with _Watch():
        yield
