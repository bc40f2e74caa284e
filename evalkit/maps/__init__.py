"""Where a detector's score comes from, as a picture, with a test of whether the picture is true of the detector."""

from __future__ import annotations

from .deleting import explain, over_all

__all__ = ["explain", "over_all"]
