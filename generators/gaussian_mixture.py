"""Images from Gaussian mixtures: for each class one or a few Gaussians with full covariance, fitted by EM.

- p(x | y) = sum_k pi_k N(x; mu_k, Sigma_k); with one component this is the sample mean and covariance, the baseline
  that every network has to beat.
- EM (Dempster et al. 1977; Bishop 2006, sec. 9.2.2) from hard assignments to means spread like k-means++ (Arthur &
  Vassilvitskii 2007).
- Sigma = (1 - rho) S + rho tau I, tau the mean variance of a pixel in the class (Ledoit & Wolf 2004, eq. 4, with rho
  given): a component that holds one image or none stays a Gaussian.
- Above 256 pixel values a full covariance would have more numbers than a set of images can tell: the mixture lives in
  the 256 leading principal components of all images, and what they leave out is independent noise.
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from evalkit.types import Control, Progress

from ._images import ImageFamily, Look
from ._training import announced

MOST_DIMENSIONS = 256
ITERATIONS = 100
# EM has arrived when an image gains less than this, in nats.
ENOUGH = 1e-4


class Mixture(NamedTuple):
    """pi [M], mu [M, D], Sigma [M, D, D], float64."""

    pi: Tensor
    mu: Tensor
    Sigma: Tensor


def log_joint(x: Tensor, mixture: Mixture) -> Tensor:
    """ln pi_k N(x; mu_k, Sigma_k) of rows x [N, D], [N, M]."""
    L = torch.linalg.cholesky(mixture.Sigma)
    offset = (x - mixture.mu[:, None]).transpose(1, 2)
    whitened = torch.linalg.solve_triangular(L, offset, upper=False)
    log_det = L.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = 0.5 * x.shape[1] * math.log(2 * math.pi)
    out: Tensor = (mixture.pi.log()[:, None] - 0.5 * (whitened**2).sum(1) - log_det[:, None] - constant).T
    return out


def maximised(x: Tensor, r: Tensor, rho: float) -> Mixture:
    """The M step: the mixture of rows x [N, D] with responsibilities r [N, M]."""
    n = r.sum(0).clamp_min(1e-10)
    mu = r.T @ x / n[:, None]
    offset = x - mu[:, None]
    S = (r.T[..., None] * offset).transpose(1, 2) @ offset / n[:, None, None]
    # Identical images have no variance at all: a millionth keeps the Gaussian one.
    tau = float(x.var(0, correction=0).mean()) + 1e-6
    Sigma = (1 - rho) * S + max(rho, 1e-6) * tau * torch.eye(x.shape[1], dtype=x.dtype)
    return Mixture(n / n.sum(), mu, Sigma)


def expected(x: Tensor, mixture: Mixture) -> tuple[Tensor, float]:
    """The E step: responsibilities [N, M], and the mean ln p(x) in nats."""
    joint = log_joint(x, mixture)
    log_p = joint.logsumexp(1, keepdim=True)
    return (joint - log_p).exp(), float(log_p.mean())


def spread(x: Tensor, components: int, rng: torch.Generator) -> Tensor:
    """Hard assignments [N, M] to images chosen far from each other: each with a chance as its squared distance."""
    chosen = [int(torch.randint(len(x), (), generator=rng))]
    while len(chosen) < components:
        nearest = torch.cdist(x, x[chosen]).amin(1) ** 2
        chosen.append(int(torch.multinomial(nearest + 1e-12, 1, generator=rng)))
    return torch.eye(components, dtype=x.dtype)[torch.cdist(x, x[chosen]).argmin(1)]


def em(x: Tensor, components: int, rho: float, rng: torch.Generator) -> Mixture:
    """The mixture of rows x [N, D], float64, once the likelihood has stopped rising."""
    mixture = maximised(x, spread(x, components, rng), rho)
    before = -math.inf
    for _ in range(ITERATIONS if components > 1 else 0):
        r, now = expected(x, mixture)
        mixture = maximised(x, r, rho)
        if now - before < ENOUGH:
            break
        before = now
    return mixture


class Components(nn.Module):
    """pi [K, M], mu [K, M, Q] and Cholesky factors L [K, M, Q, Q] in the basis U [D, Q] around `centre` [D]."""

    pi: Tensor
    mu: Tensor
    L: Tensor
    U: Tensor
    centre: Tensor
    noise: Tensor

    def __init__(self, kinds: int, components: int, pixels: int) -> None:
        super().__init__()
        q = min(pixels, MOST_DIMENSIONS)
        shapes = {"pi": (kinds, components), "mu": (kinds, components, q), "L": (kinds, components, q, q)}
        for name, shape in {**shapes, "U": (pixels, q), "centre": (pixels,), "noise": (1,)}.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))

    def forward(self, labels: Tensor, chosen: Tensor, z: Tensor, epsilon: Tensor) -> Tensor:
        """Images [B, D] of classes and components [B], codes z [B, Q] and pixel noise epsilon [B, D]."""
        inside = self.mu[labels, chosen] + torch.einsum("bij,bj->bi", self.L[labels, chosen], z)
        out: Tensor = self.centre + inside @ self.U.T + self.noise * epsilon
        return out


def principal(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Basis U [D, Q], centre [D] and the standard deviation of a pixel outside of them; all pixels if they are few."""
    n, d = x.shape
    if d <= MOST_DIMENSIONS:
        return torch.eye(d, dtype=x.dtype), torch.zeros(d, dtype=x.dtype), 0.0
    centre = x.mean(0)
    # Images that are fewer than the components leave the rest of the basis without variance.
    _, singular, Vt = torch.linalg.svd(x - centre, full_matrices=False)
    U = torch.zeros(d, MOST_DIMENSIONS, dtype=x.dtype)
    U[:, : len(Vt)] = Vt[:MOST_DIMENSIONS].T
    return U, centre, math.sqrt(float((singular[MOST_DIMENSIONS:] ** 2).sum()) / n / (d - MOST_DIMENSIONS))


class GaussianMixture(ImageFamily):
    """Gaussian mixture of each class, for images up to 64x64."""

    name = "gaussian_mixture"
    modality = "image"
    role = "candidate"
    controls: ClassVar[tuple[Control, ...]] = (
        Control("components", 1, "Gaussians of each class", 1, 64),
        Control("shrinkage", 0.02, "share of every covariance that is the same variance for all pixels", 0, 1),
    )

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        net, rho = self._build(look), float(self._settings["shrinkage"])
        rng = torch.Generator().manual_seed(seed)
        rows = x.flatten(1).double()
        U, centre, noise = principal(rows)
        inside = (rows - centre) @ U
        with announced(progress, f"fit {self.name}", look.kinds) as advance:
            for y in range(look.kinds):
                mine = inside[labels == y]
                # A class with fewer images than components has as many as it has images; the others are never drawn.
                m = min(int(self._settings["components"]), len(mine))
                pi, mu, Sigma = em(mine, m, rho, rng)
                net.pi[y, :m], net.mu[y, :m], net.L[y, :m] = pi, mu, torch.linalg.cholesky(Sigma)
                advance(1)
        net.U.copy_(U)
        net.centre.copy_(centre)
        net.noise.fill_(noise)
        return net.to(device)

    def _build(self, look: Look) -> Components:
        return Components(look.kinds, int(self._settings["components"]), math.prod(look.shape))

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        assert isinstance(self._net, Components)
        device, (d, q) = labels.device, self._net.U.shape
        chosen = torch.multinomial(self._net.pi[labels].cpu(), 1, generator=rng).squeeze(1).to(device)
        z, epsilon = (torch.randn(len(labels), size, generator=rng).to(device) for size in (q, d))
        x: Tensor = self._net(labels, chosen, z, epsilon)
        return x.view(-1, *self._look.shape)
