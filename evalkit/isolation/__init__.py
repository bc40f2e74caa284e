"""Untrusted media opened in worker processes that may die of it: bytes in, one state and a plain array or text out."""

from __future__ import annotations

from .limits import Limits
from .pool import Media, Pool, Want

__all__ = ["Limits", "Media", "Pool", "Want"]
