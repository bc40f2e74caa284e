"""Instruments that turn one image or one text into one row of numbers, one file each."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "clip": "evalkit.extractors.clip:Clip",
    "convnext": "evalkit.extractors.convnext:ConvNeXt",
    "dinov2": "evalkit.extractors.dinov2:DINOv2",
    "lpips": "evalkit.extractors.lpips:Lpips",
    "inception": "evalkit.extractors.inception:Inception",
    "pixels": "evalkit.extractors.pixels:Pixels",
    "random_conv": "evalkit.extractors.random_conv:RandomConv",
    "digits_net": "evalkit.extractors.digits_net:DigitsNet",
    "digits_captions": "evalkit.extractors.digits_captions:DigitsCaptions",
    "prose_lm": "evalkit.extractors.prose_lm:ProseLM",
    "prose_states": "evalkit.extractors.prose_states:ProseStates",
    "char_ngrams": "evalkit.extractors.char_ngrams:CharNgrams",
    "hf_classifier": "evalkit.extractors.hf_classifier:HubClassifier",
    "hf_encoder": "evalkit.extractors.hf_encoder:HubEncoder",
    "hf_lm": "evalkit.extractors.causal.hub:HubLM",
    "llama2c": "evalkit.extractors.causal.llama2c:Llama2c",
    "lm_pair": "evalkit.extractors.causal.pair:PairLM",
}
