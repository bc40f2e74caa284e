"""Instruments that turn one image or one text into one row of numbers, one file each."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "pixels": "evalkit.extractors.pixels:Pixels",
    "random_conv": "evalkit.extractors.random_conv:RandomConv",
    "digits_net": "evalkit.extractors.digits_net:DigitsNet",
    "prose_lm": "evalkit.extractors.prose_lm:ProseLM",
    "prose_states": "evalkit.extractors.prose_states:ProseStates",
    "char_ngrams": "evalkit.extractors.char_ngrams:CharNgrams",
}
