"""Text watermarks: what a keyed generator leaves in its tokens, and the test that finds it, both from one definition.

`kgw`, `synthid` and `exponential` each hold one scheme, tested and drawn; `randomness` the generators they are keyed
by; `tails` the exact null distributions; `tokenizers` what turns a text back into tokens; `keys` the key file.
"""

from __future__ import annotations

from .evidence import Evidence, Outcome, Scheme
from .keys import WatermarkKey, described, key_of, read_key, scheme_of, watermark_test

__all__ = [
    "Evidence",
    "Outcome",
    "Scheme",
    "WatermarkKey",
    "described",
    "key_of",
    "read_key",
    "scheme_of",
    "watermark_test",
]
