"""Reference generators: small models whose quality is known, a floor and a ceiling for each modality.

`BUILTIN` says where each one lives; nothing is imported until it is asked for.
"""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "gan": "generators.gan:Gan",
    "vae": "generators.vae:Vae",
    "diffusion": "generators.diffusion:Diffusion",
    "noise": "generators.noise:Noise",
    "lm": "generators.lm:Lm",
    "ngram": "generators.ngram:Ngram",
    "unigram": "generators.unigram:Unigram",
    "resample": "generators.resample:Resample",
}
