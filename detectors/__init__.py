"""Judges that tell generated samples from real ones, one file each; each is fitted on real and fake examples."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "spectrum": "detectors.spectrum:Spectrum",
    "cnn": "detectors.cnn:CNN",
    "ngram_lr": "detectors.ngram_lr:NgramLR",
    "likelihood": "detectors.likelihood:Likelihood",
}
