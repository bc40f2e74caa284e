"""Images from probabilistic PCA: for each class a mean, a few directions of variation and noise, in closed form.

- x = W z + mu + epsilon, z ~ N(0, I), epsilon ~ N(0, sigma^2 I) (Tipping & Bishop 1999, eq. 2), so that the covariance
  is C = W W^T + sigma^2 I.
- Maximum likelihood needs no iteration: W = U_q (Lambda_q - sigma^2 I)^(1/2), the leading eigenvectors of the sample
  covariance (divided by N), and sigma^2 is the mean of the eigenvalues left out (eq. 7, 8; the rotation R is I).
- The eigenvectors come from the singular values of the centred images: the D x D covariance of large images is never
  formed.
- A code z decodes to its mean W z + mu; a sample has the noise too, as the model says.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from evalkit.types import Control, Progress

from ._images import CodeFamily, Look
from ._training import announced


class Directions(nn.Module):
    """W [K, D, q], mu [K, D] and sigma [K] of K classes of images with D pixel values."""

    def __init__(self, kinds: int, pixels: int, components: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(kinds, pixels, components), requires_grad=False)
        self.mu = nn.Parameter(torch.zeros(kinds, pixels), requires_grad=False)
        self.sigma = nn.Parameter(torch.zeros(kinds), requires_grad=False)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """The mean image [B, D] of codes z [B, q]."""
        return torch.einsum("bdq,bq->bd", self.W[labels], z) + self.mu[labels]


def closed_form(x: Tensor, components: int) -> tuple[Tensor, Tensor, Tensor]:
    """W [D, q], mu [D] and sigma of images x [N, D]; directions that N images do not span are zero."""
    n, d = x.shape
    x, mu = x.double() - x.double().mean(0), x.double().mean(0)
    _, singular, Vt = torch.linalg.svd(x, full_matrices=False)
    eigenvalues = singular**2 / n
    # At least one direction is left for the noise, and N centred images span N - 1.
    q = min(components, n - 1, d - 1)
    sigma2 = eigenvalues[q:].sum() / (d - q)
    W = torch.zeros(d, components, dtype=torch.float64)
    W[:, :q] = Vt[:q].T * (eigenvalues[:q] - sigma2).clamp_min(0).sqrt()
    return W.float(), mu.float(), sigma2.sqrt().float()


class Pca(CodeFamily):
    """Probabilistic principal component analysis of each class, for images up to 64x64."""

    name = "pca"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("components", 16, "directions of variation of each class", 1, 4096),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        net = self._build(look)
        with announced(progress, f"fit {self.name}", look.kinds) as advance:
            for y in range(look.kinds):
                net.W[y], net.mu[y], net.sigma[y] = closed_form(x[labels == y].flatten(1), self.latent_size)
                advance(1)
        return net.to(device)

    def _build(self, look: Look) -> Directions:
        return Directions(look.kinds, math.prod(look.shape), self.latent_size)

    @property
    def latent_size(self) -> int:
        return int(self._settings["components"])

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        assert isinstance(self._net, Directions)
        x = super()._generate(labels, rng)
        epsilon = torch.randn(x.shape, generator=rng).to(x.device)
        return x + self._net.sigma[labels][:, None, None, None] * epsilon

    def _decoded(self, z: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self._net(z, labels)
        return x.view(-1, *self._look.shape)
