"""What follows the place of a model in an instrument's name: `hf_lm:FOLDER:stride=512:prefix=none:context=1024`.

`pool=last` or `pool=mean` says which states become the head `features`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import BadSetting, UnknownName
from .pooling import POOLS
from .windows import Window, rolling, strided

KEYS = ("stride", "prefix", "context", "pool")


@dataclass(frozen=True)
class Settings:
    """stride: 0 for rolling windows; prefix: whether a text follows the model's token for its beginning; context: 0
    for the model's own; pool: of which states the features are made."""

    stride: int = 0
    prefix: bool = True
    context: int = 0
    pool: str = "last"

    @property
    def about(self) -> dict[str, str]:
        """In words; `stride` is what tells the convention `strided` from `corpus`."""
        laid = f"begin every {self.stride} tokens" if self.stride else "rolling, as many new tokens as they read"
        return {
            "windows": laid,
            "stride": str(self.stride) if self.stride else "none",
            "features": f"{POOLS[self.pool]}; of a text longer than the context, of its beginning",
        }

    @property
    def terms(self) -> Mapping[str, object]:
        """What a digest covers."""
        return {"stride": self.stride, "prefix": self.prefix, "pool": self.pool}

    def windows(self, m: int, context: int) -> list[Window]:
        """The windows of a sequence of m tokens, its prefix included; BadSetting for a stride beyond the context."""
        return strided(m, context, self.stride) if self.stride else rolling(m, context)

    def context_of(self, model: int) -> int:
        """The context in tokens, of a model that has so much; BadSetting where more is asked for."""
        if self.context > model:
            raise BadSetting(f"context = {self.context}; expected 1 to {model}, which is what the model has")
        context = self.context or model
        if self.stride:
            strided(1, context, self.stride)
        return context


def split(variant: str) -> tuple[str, Settings]:
    """The place of a model, and the settings after it; UnknownName, BadSetting for what is no setting."""
    place, given = variant, dict[str, str]()
    while "=" in (last := place.rpartition(":")[2]) and place.rpartition(":")[1]:
        key, _, value = last.partition("=")
        if key not in KEYS:
            raise UnknownName("setting of a language model", key, KEYS)
        given[key] = value
        place = place.rpartition(":")[0]
    if given.get("prefix", "none") != "none":
        raise BadSetting(f"prefix = {given['prefix']!r}; expected none, or leave it out to have the model's own")
    pool = given.get("pool", "last")
    if pool not in POOLS:
        raise BadSetting(f"pool = {pool!r}; expected {' or '.join(POOLS)}")
    return place, Settings(_whole(given, "stride"), "prefix" not in given, _whole(given, "context"), pool)


def _whole(given: Mapping[str, str], key: str) -> int:
    if key not in given:
        return 0
    if not (given[key].isascii() and given[key].isdigit() and int(given[key]) > 0):
        raise BadSetting(f"{key} = {given[key]!r}; expected a whole number of tokens above 0")
    return int(given[key])
