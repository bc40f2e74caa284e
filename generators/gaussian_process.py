"""Images from Gaussian processes: brightness as a smooth random function of the coordinates, one process a class.

- x = mu + f + epsilon, f ~ GP(0, k), epsilon ~ N(0, sigma_n^2): mu is the class's mean image, k a stationary kernel
  (Rasmussen & Williams 2006, sec. 4.2) times a variance sigma_f^2.
- k is a product of one kernel for each axis, so on the grid of pixels its matrix is the Kronecker product of two small
  ones, whose eigenvectors give inverse, determinant and square root exactly (Saatci 2011, sec. 5.2). For the kernel
  "rbf" the product is the usual isotropic one; for the others it is a kernel of its own.
- Colours share the function through a third factor, their covariance over the class (Bonilla et al. 2008, eq. 1).
- Length, sigma_f, sigma_n and a shape maximise the marginal likelihood of the class's images (R & W, eq. 5.8).
- Given an image of which half is hidden, the rest is drawn from the exact conditional Gaussian (R & W, eq. 2.19), as a
  draw from the prior corrected by what it misses on the seen half (Journel & Huijbregts 1978; Wilson et al. 2020,
  eq. 5). The class is drawn first, from p(class | seen half).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evalkit.errors import BadSetting, BadSource, ModalityMismatch, UnreadableSample
from evalkit.types import Batch, Control, Modality, Progress, Sample, SampleSet

from ._family import BATCH
from ._images import ImageFamily, Look
from ._training import announced

# Distance d, length and shape -> correlation; the shape is a period for one, a mixture of lengths for another.
KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "rbf": lambda d, length, shape: (-0.5 * (d / length) ** 2).exp(),
    # nu = 3/2: functions with one derivative.
    "matern": lambda d, length, shape: (1 + math.sqrt(3) * d / length) * (-math.sqrt(3) * d / length).exp(),
    "periodic": lambda d, length, shape: (-2 * (torch.pi * d / shape).sin() ** 2 / length**2).exp(),
    "rational_quadratic": lambda d, length, shape: (1 + 0.5 * (d / length) ** 2 / shape) ** -shape,
}
SHAPED = ("periodic", "rational_quadratic")
# Images of a class that the hyperparameters are fitted to; four numbers need no more.
MOST = 256


def axis(kernel: str, n: int, theta: Tensor) -> Tensor:
    """Correlations of n pixels in a line, [..., n, n]; theta [..., 4] = ln (length, sigma_f^2, sigma_n^2, shape)."""
    at = torch.arange(n, dtype=theta.dtype, device=theta.device)
    length, shape = (theta[..., i, None, None].exp() for i in (0, 3))
    return KERNELS[kernel]((at[:, None] - at).abs(), length, shape)


def turned(x: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """The Kronecker product of matrices for colour, row and column, times x [..., C, H, W]: one axis after another."""
    x = torch.einsum("...cd,...dhw->...chw", factors[0], x)
    x = torch.einsum("...hi,...ciw->...chw", factors[1], x)
    return torch.einsum("...wj,...chj->...chw", factors[2], x)


class Spectrum:
    """Eigenvectors of each factor, and all eigenvalues [..., C, H, W] of sigma_f^2 B x K_r x K_c + sigma_n^2 I."""

    def __init__(self, factors: Sequence[Tensor], theta: Tensor) -> None:
        values, self.vectors = zip(*(torch.linalg.eigh(A) for A in factors), strict=True)
        # Smooth kernels have eigenvalues of zero, of which rounding makes some negative.
        b, r, c = (v.clamp_min(0) for v in values)
        product = b[..., :, None, None] * r[..., None, :, None] * c[..., None, None, :]
        self.eigenvalues = theta[..., 1, None, None, None].exp() * product + theta[..., 2, None, None, None].exp()

    def rotated(self, x: Tensor) -> Tensor:
        """x [..., C, H, W] in coordinates where the covariance is diagonal."""
        return turned(x, [v.mT for v in self.vectors])

    def solved(self, x: Tensor) -> Tensor:
        """(K + sigma_n^2 I)^-1 x."""
        return turned(self.rotated(x) / self.eigenvalues, self.vectors)

    def log_density(self, x: Tensor) -> Tensor:
        """ln N(x; 0, K + sigma_n^2 I) of x [N, C, H, W], in nats [N]."""
        quadratic = (self.rotated(x) ** 2 / self.eigenvalues).flatten(1).sum(1)
        out: Tensor = -0.5 * (quadratic + (2 * torch.pi * self.eigenvalues).log().sum())
        return out


def fitted(x: Tensor, B: Tensor, kernel: str) -> Tensor:
    """theta [4] of the largest marginal likelihood of centred images x [N, C, H, W], float64."""
    # Imported when first needed: a table of names must not wait for it.
    from scipy.optimize import minimize

    _, _, h, w = x.shape
    side, variance = max(h, w), float(x.var(correction=0)) + 1e-4

    def loss(given: npt.NDArray[np.float64]) -> float:
        theta = torch.cat([torch.from_numpy(given), torch.zeros(4 - len(given), dtype=x.dtype)])
        spectrum = Spectrum([B, axis(kernel, h, theta), axis(kernel, w, theta)], theta)
        return -float(spectrum.log_density(x).mean()) / x[0].numel()

    start = [math.log(1.5), math.log(variance), math.log(0.1 * variance)]
    # An image has no detail finer than a pixel; a variance of zero has no likelihood.
    bounds = [(math.log(0.3), math.log(4 * side)), (math.log(1e-5), math.log(10)), (math.log(1e-5), 0)]
    if kernel in SHAPED:
        low, first, high = (2, side, 4 * side) if kernel == "periodic" else (0.05, 1, 100)
        start, bounds = [*start, math.log(first)], [*bounds, (math.log(low), math.log(high))]
    best = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    found = torch.zeros(4, dtype=x.dtype)
    found[: len(start)] = torch.from_numpy(best.x)
    return found


class Field(nn.Module):
    """mu [K, C, H, W], B [K, C, C] and theta [K, 4] of K classes, float64."""

    mu: Tensor
    B: Tensor
    theta: Tensor

    def __init__(self, look: Look, kernel: str) -> None:
        super().__init__()
        self.kernel, (c, h, w) = kernel, look.shape
        for name, shape in {"mu": (c, h, w), "B": (c, c), "theta": (4,)}.items():
            zeros = torch.zeros(look.kinds, *shape, dtype=torch.float64)
            self.register_parameter(name, nn.Parameter(zeros, requires_grad=False))

    def factors(self, labels: Tensor) -> list[Tensor]:
        """Covariance of colours, correlation of rows and of columns, one of each for every label."""
        theta, (h, w) = self.theta[labels], self.mu.shape[2:]
        return [self.B[labels], axis(self.kernel, h, theta), axis(self.kernel, w, theta)]

    def prior(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        """Images [B, C, H, W] drawn without anything given."""
        mu, spectrum = self.mu[labels], Spectrum(self.factors(labels), self.theta[labels])
        z = torch.randn(mu.shape, generator=rng, dtype=torch.float64).to(mu.device)
        return mu + turned(spectrum.eigenvalues.sqrt() * z, spectrum.vectors)

    def log_seen(self, seen: Tensor, rows: slice, columns: slice) -> Tensor:
        """ln p(seen | class) of the pixels [B, C, h, w] at some rows and columns, [B, K]."""
        each = []
        for y in range(len(self.mu)):
            b, r, c = self.factors(torch.tensor(y))
            spectrum = Spectrum([b, r[rows, rows], c[columns, columns]], self.theta[y])
            each.append(spectrum.log_density(seen - self.mu[y, :, rows, columns]))
        return torch.stack(each, 1)

    def corrected(self, x: Tensor, seen: Tensor, labels: Tensor, rows: slice, columns: slice) -> Tensor:
        """x + K_.o (K_oo + sigma_n^2 I)^-1 (seen - x_o): mu becomes the conditional mean, a prior draw a draw of it."""
        theta, (b, r, c) = self.theta[labels], self.factors(labels)
        spectrum = Spectrum([b, r[:, rows, rows], c[:, columns, columns]], theta)
        missed = spectrum.solved(seen - x[..., rows, columns])
        change = theta[:, 1, None, None, None].exp() * turned(missed, [b, r[:, :, rows], c[:, :, columns]])
        x = x + change
        # The noise of the pixels that were seen is known too.
        x[..., rows, columns] = seen
        return x


class GaussianProcess(ImageFamily):
    """Gaussian process of each class over pixel coordinates, which also completes half-hidden images."""

    name = "gaussian_process"
    modality = "image"
    role = "candidate"
    takes: Modality = "image"
    controls: ClassVar[tuple[Control, ...]] = (
        Control(
            "kernel",
            "rbf",
            "how likeness falls with distance",
            choices=("rbf", "matern", "periodic", "rational_quadratic"),
        ),
        Control("mask", "top", "half of a given image that is seen", choices=("top", "bottom", "left", "right")),
    )
    at_sampling = frozenset({"mask"})

    def _train(
        self, look: Look, x: Tensor, labels: Tensor, seed: int, device: str, progress: Progress | None
    ) -> nn.Module:
        net = self._build(look)
        with announced(progress, f"fit {self.name}", look.kinds) as advance:
            for y in range(look.kinds):
                mine = x[labels == y].double()
                offset = mine - mine.mean(0)
                colours = offset.transpose(0, 1).flatten(1)
                B = colours @ colours.T / colours.shape[1] + 1e-6 * torch.eye(look.channels)
                net.mu[y], net.B[y] = mine.mean(0), B * look.channels / B.trace()
                net.theta[y] = fitted(offset[:MOST], net.B[y], net.kernel)
                advance(1)
        return net.to(device)

    def _build(self, look: Look) -> Field:
        return Field(look, str(self._settings["kernel"]))

    def _generate(self, labels: Tensor, rng: torch.Generator) -> Tensor:
        assert isinstance(self._net, Field)
        return self._net.prior(labels, rng)

    def sample_given(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        """One image for each given: its half named by `mask` is kept to the pixel, the other half drawn.

        Raises BadSetting before `fit`, ModalityMismatch for texts, BadSource for an image that cannot be read or has
        another size.
        """
        if not self._trained_on:
            raise BadSetting(f"{self.name} has learned nothing yet; call fit or load before sample_given")
        if inputs.modality != "image":
            raise ModalityMismatch(f"{self.name} completes images, {inputs.name!r} holds {inputs.modality}s")
        return self._completions(inputs, seed)

    def _completions(self, inputs: SampleSet, seed: int) -> Iterator[Batch]:
        rng, waiting = torch.Generator().manual_seed(seed), []
        for at, sample in enumerate(inputs, 1):
            waiting.append(self._given(sample))
            if len(waiting) == BATCH or at == len(inputs):
                with torch.inference_mode():
                    batch = self._completed(np.stack(waiting), rng)
                waiting = []
                yield batch

    def _given(self, sample: Sample) -> npt.NDArray[np.uint8]:
        try:
            image = cast("npt.NDArray[np.uint8]", sample.load())
        except UnreadableSample as e:
            raise BadSource(f"image {sample.id!r} cannot be read ({e}); remove it from the set") from e
        look = self._look
        if image.shape[:2] != (look.height, look.width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise BadSource(
                f"{self.name} learned {look.width}x{look.height} images, {sample.id!r} is {found}; scale the images"
            )
        return image

    def _completed(self, pixels: npt.NDArray[np.uint8], rng: torch.Generator) -> Batch:
        """The images [B, H, W, 3] with their hidden half drawn anew."""
        net, (rows, columns) = self._net, self._half()
        assert isinstance(net, Field)
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self._device, torch.float64) / 255
        x = x.mean(1, keepdim=True) if self._look.channels == 1 else x
        seen = x[..., rows, columns]
        p = net.log_seen(seen, rows, columns).softmax(1).cpu()
        labels = torch.multinomial(p, 1, generator=rng).squeeze(1)
        y = labels.to(self._device)
        drawn = self._look.render(net.corrected(net.prior(y, rng), seen, y, rows, columns))
        # As it was given: not rounded to the training levels.
        drawn[:, rows, columns] = pixels[:, rows, columns]
        return Batch(drawn, self._look.names(labels))

    def _half(self) -> tuple[slice, slice]:
        """Rows and columns that are seen."""
        h, w, every = self._look.height, self._look.width, slice(None)
        return {
            "top": (slice(h // 2), every),
            "bottom": (slice(h // 2, None), every),
            "left": (every, slice(w // 2)),
            "right": (every, slice(w // 2, None)),
        }[str(self._settings["mask"])]
