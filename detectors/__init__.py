"""Judges that tell generated samples from real ones, one file each; each is fitted on real and fake examples."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "spectrum": "detectors.spectrum:Spectrum",
    "residual": "detectors.residual:Residual",
    "clip_probe": "detectors.clip_probe:ClipProbe",
    "reconstruction": "detectors.reconstruction:Reconstruction",
    "ensemble": "detectors.ensemble:Ensemble",
    "panel": "detectors.panel:Panel",
    "cnn": "detectors.cnn:CNN",
    "npr": "detectors.npr:NPR",
    "patch": "detectors.patch:Patch",
    "ngram_lr": "detectors.ngram_lr:NgramLR",
    "fingerprint": "detectors.fingerprint:Fingerprint",
    "source_probe": "detectors.source_probe:SourceProbe",
    "likelihood": "detectors.likelihood:Likelihood",
    "zero_shot": "detectors.zero_shot:ZeroShot",
    "surprisal_gbdt": "detectors.surprisal_gbdt:SurprisalGBDT",
    "encoder": "detectors.encoder:Encoder",
    "cnndetection": "detectors.cnndetection:CNNDetection",
    "univfd": "detectors.univfd:UnivFD",
    "rine": "detectors.rine:RINE",
    "npr_progan": "detectors.npr_progan:NPRProGAN",
    "ladeda": "detectors.ladeda:LaDeDa",
    "tiny_ladeda": "detectors.ladeda:TinyLaDeDa",
    "dmid": "detectors.dmid:DMID",
    "mesonet": "detectors.mesonet:MesoNet",
    "cifake": "detectors.cifake:CIFAKE",
    "kgw": "detectors.kgw:KGW",
    "synthid": "detectors.synthid:SynthID",
    "exp_watermark": "detectors.exp_watermark:ExpWatermark",
}
