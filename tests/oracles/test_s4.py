"""S4 and its diagonal kin against their convolution kernels, as the papers write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ssir.spec.load import load
from tests.oracles import compare
from tests.oracles.equations import below, by_fft, mapped, normed

TIME = 9
Weights = Mapping[str, Tensor]
Kernel = Callable[[Weights, int], Tensor]
Mixer = Callable[[Weights, Tensor], Tensor]


def _pair(w: Weights, name: str) -> Tensor:
    return torch.complex(w[f"{name}_real"], w[f"{name}_imag"])


def _glu(w: Weights, y: Tensor) -> Tensor:
    return torch.sigmoid(mapped(w, "gate", y)) * mapped(w, "out", y)


def s4d_kernel(w: Weights, time: int) -> Tensor:
    """K[l] = 2 Re sum_n C_n (exp(dt A_n) - 1) / A_n B_n exp(dt A_n l): a product with a Vandermonde matrix (arXiv:2206.11893)."""
    a = torch.complex(-w["log_rate"].exp(), w["frequency"])
    dt_a = w["log_dt"].exp()[:, None] * a
    c = _pair(w, "c") * (dt_a.exp() - 1) / a * _pair(w, "b")
    powers = torch.exp(dt_a[..., None] * torch.arange(time))
    return 2 * torch.einsum("hn,hnl->lh", c, powers).real


def s4_kernel(w: Weights, time: int) -> Tensor:
    """The generating function of the kernel at the roots of unity: Cauchy products, and the rank one by Woodbury's identity
    (arXiv:2111.00396, algorithm 1). The time is odd, so that -1 is no root."""

    def both(x: Tensor) -> Tensor:
        return torch.cat([x, x.conj()], -1)

    modes, p, b, c = (
        both(x) for x in (torch.complex(-w["log_rate"].exp(), w["frequency"]), *(_pair(w, k) for k in ("p", "b", "c")))
    )
    dt = w["log_dt"].exp()[:, None]
    z = dt[..., None] / 2 * (torch.diag(modes) - torch.outer(p, p.conj()))
    unit = torch.eye(len(modes), dtype=modes.dtype)
    step = torch.linalg.solve(unit - z, unit + z)
    c = c - torch.einsum("hn,hnm->hm", c, torch.linalg.matrix_power(step, time))
    omega = torch.exp(-2j * math.pi * torch.arange(time) / time)
    g = 2 * (1 - omega) / (1 + omega)

    def cauchy(v: Tensor) -> Tensor:
        return (v[..., None] * dt[..., None] / (g - (dt * modes)[..., None])).sum(-2)

    right = cauchy(c * b) - cauchy(c * p) * cauchy(p.conj() * b) / (1 + cauchy(p.conj() * p))
    kernel: Tensor = torch.fft.ifft(2 / (1 + omega) * right, dim=-1)
    return kernel.real.T


def _dss(w: Weights, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lambda [state], Delta Lambda [channels, state], where Delta is another for the imaginary part, and W."""
    mode = torch.complex(real, w["frequency"])
    dt = w["z.log_dt_real"].exp()[:, None], w["z.log_dt_imag"].exp()[:, None]
    return mode, torch.complex(dt[0] * mode.real, dt[1] * mode.imag), _pair(w, "z.w")


def dss_kernel(w: Weights, time: int) -> Tensor:
    """DSS-exp: K[l] = Re sum_n W_n / Lambda_n (exp(Delta Lambda_n) - 1) exp(Delta Lambda_n l) (arXiv:2203.14343, proposition 1)."""
    mode, z, c = _dss(w, -w["log_rate"].exp())
    return torch.einsum("hn,hnl->lh", c / mode * (z.exp() - 1), torch.exp(z[..., None] * torch.arange(time))).real


def dss_softmax_kernel(w: Weights, time: int, length: int) -> Tensor:
    """DSS-softmax: every row exp(Delta Lambda_n l) over its sum for l < length; the largest power is divided out before, and no
    reciprocal is larger than it is at 1e-7."""
    mode, z, c = _dss(w, w["rate"])
    largest = torch.where(mode.real > 0, length - 1, 0)
    powers = torch.exp(z[..., None] * (torch.arange(length) - largest[:, None]))
    step = torch.exp(torch.where(mode.real > 0, -z, z)) - 1
    total = step * powers.sum(-1) * mode
    return torch.einsum("hn,hnl->lh", c * step * total.conj() / (total.abs() ** 2 + 1e-7), powers[..., :time]).real


def gss_kernel(w: Weights, time: int) -> Tensor:
    """K[l] = Re sum_n C_n (exp(Lambda_n) - 1) / Lambda_n exp(Lambda_n l) (arXiv:2206.13947, figure 2)."""
    mode = torch.complex(-w["log_rate"].exp(), w["log_frequency"].exp())
    return torch.einsum(
        "hn,nl->lh", _pair(w, "c") * (mode.exp() - 1) / mode, torch.exp(mode[:, None] * torch.arange(time))
    ).real


def _mixer(kernel: Kernel) -> Mixer:
    return lambda w, u: _glu(w, F.gelu(by_fft(u, kernel(w, u.shape[1])) + w["skip"] * u))


def _dss_mixer(kernel: Kernel) -> Mixer:
    return lambda w, u: mapped(w, "y.y", F.gelu(by_fft(u, kernel(w, u.shape[1])) + w["y.skip"] * u))


def _gss(w: Weights, tokens: Tensor) -> Tensor:
    x = w["e.weight"][tokens]
    for layer in range(2):
        at = below(w, f"x.{layer}.")
        u, at = normed(at, "y.layer_norm", x), below(at, "y.mixer.")
        narrow = normed(at, "y.layer_norm", F.gelu(u @ at["narrow.weight"].T))
        ssm = below(at, "y.ssm.")
        y = by_fft(narrow, gss_kernel(ssm, u.shape[1])) + ssm["skip"] * narrow
        x = x + (F.gelu(u @ at["v.weight"].T) * (y @ at["y.linear_2.weight"].T)) @ at["y.linear.weight"].T
    return normed(w, "logits.layer_norm", x) @ w["e.weight"].T


def _classifier(w: Weights, pixels: Tensor, mixer: Mixer) -> Tensor:
    """Norms after the residual; the mean of all steps is classified."""
    x = mapped(w, "x.input", pixels)
    for layer in range(2):
        at = below(w, f"x.{layer}.")
        x = normed(at, "y.layer_norm", x + mixer(below(at, "y.mixer."), x))
    return mapped(w, "logits", x.mean(1))


def _language_model(w: Weights, tokens: Tensor) -> Tensor:
    x = w["e.weight"][tokens] * w["e.weight"].shape[-1] ** 0.5
    mixer = _mixer(s4_kernel)
    for layer in range(2):
        at = below(w, f"x.{layer}.")
        x = x + mixer(below(at, "first.mixer."), normed(at, "first.layer_norm", x))
        x = x + mixer(below(at, "second.mixer."), normed(at, "second.layer_norm", x))
        up = mapped(at, "y.mlp.up", normed(at, "y.layer_norm", x))
        x = x + mapped(at, "y.mlp.down", F.gelu(up))
    return normed(w, "logits.layer_norm", x) @ w["e.weight"].T + w["logits.linear.bias"]


def _same(name: str, theirs: Mixer, via: str, x: Tensor, **dims: float) -> None:
    ours = compare.Model(load(name, None, **dims), via)
    generator = torch.Generator().manual_seed(0)
    weights = {key: compare.random_like(p, generator).requires_grad_() for key, p in ours.params.items()}
    mapping = {key: compare.Part(key) for key in weights}
    compare.same(ours, lambda x: theirs(weights, x), weights, mapping, x)
    compare.stepwise(ours, x, 4)


def _signal(*axes: int) -> Tensor:
    return torch.randn(2, TIME, *axes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("via", compare.VIA)
def test_s4d_is_a_convolution_with_its_vandermonde_kernel(via: str) -> None:
    dims = {"model": 6, "layers": 2, "colour": 3, "class": 5, "order": 8}
    _same("s4d", lambda w, x: _classifier(w, x, _mixer(s4d_kernel)), via, _signal(3), **dims)


@pytest.mark.parametrize("via", compare.VIA)
def test_s4_is_a_convolution_with_its_cauchy_kernel(via: str) -> None:
    dims = {"model": 6, "layers": 2, "vocab": 11, "order": 8, "hidden": 7}
    _same("s4", _language_model, via, compare.tokens(11, time=TIME), **dims)


def test_s4_classifies_by_the_mean_of_all_steps() -> None:
    dims = {"model": 6, "layers": 2, "colour": 3, "class": 5, "order": 4}
    _same("s4.classifier", lambda w, x: _classifier(w, x, _mixer(s4_kernel)), "compiled", _signal(3), **dims)


@pytest.mark.parametrize("via", compare.VIA)
def test_dss_is_a_convolution_with_its_kernel(via: str) -> None:
    dims = {"model": 6, "layers": 2, "colour": 3, "class": 5, "state": 4}
    _same("dss", lambda w, x: _classifier(w, x, _dss_mixer(dss_kernel)), via, _signal(3), **dims)


@pytest.mark.parametrize("via", compare.VIA)
def test_dss_normalised_is_a_convolution_with_a_softmax(via: str) -> None:
    dims = {"model": 6, "state": 5, "length": 12}
    mixer = _dss_mixer(lambda w, time: dss_softmax_kernel(w, time, 12))
    _same("dss.normalised", mixer, via, _signal(6), **dims)


@pytest.mark.parametrize("via", compare.VIA)
def test_gss_is_a_convolution_between_gates(via: str) -> None:
    dims = {"model": 6, "layers": 2, "vocab": 11, "hidden": 8, "width": 5, "state": 3}
    _same("gss", _gss, via, compare.tokens(11, time=TIME), **dims)
