"""Images from a beta-VAE: no classes told, a KL term that counts four times, codes whose numbers mean one thing each.

- Loss = reconstruction + beta KL with beta = 4 (Higgins et al. 2017, eq. 4): a number of the code that does not pay for
  itself is switched off (its q(z|x) becomes the prior), and the rest tend to be independent of each other.
- A grey value is counted as a share of 16 coin flips, black or white, where `vae` counts one (in the embedded digits it
  is exactly that: 4x4 dots a pixel). With one flip no number of the code of an 8x8 image is worth 4 nats a nat: all
  switch off, and every sample is the mean image. The loss is divided by 16, so that step sizes mean the same.
- Unconditional, so that the class too has to find its place in the code; samples name no class.
- Look at it with `draw` = "traversal". Otherwise it is the variational autoencoder, with its blur made worse.
"""

from __future__ import annotations

from typing import ClassVar

from evalkit.types import Control

from .vae import Vae


class BetaVae(Vae):
    """Unconditional beta-VAE for images up to 64x64."""

    name = "beta_vae"
    trials = 16
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("steps", 3000, "training steps", 1, 1_000_000),
        Control("learning_rate", 2e-3, "highest step size of Adam", 1e-7, 1000),
        Control("width", 256, "hidden units of encoder and decoder", 16, 1024),
        Control("latent", 12, "numbers in the code z", 1, 256),
        Control("beta", 4.0, "weight of the KL term: more is simpler codes and more blur", 0, 1000),
        Control(
            "draw",
            "prior",
            "samples, or rows of 8 through the code space",
            choices=("prior", "interpolation", "traversal"),
        ),
    )
