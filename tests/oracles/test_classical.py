"""The classical systems against closed forms, and the matrices of HiPPO against what they are meant to keep up to date."""

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from numpy.polynomial import Laguerre, Legendre, Polynomial
from numpy.polynomial.laguerre import laggauss
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from ssir.spec.load import load
from tests.oracles import compare

Array = npt.NDArray[Any]
VIA = pytest.mark.parametrize("via", compare.VIA)


def _run(via: str, name: str, u: Tensor, **dims: float) -> Tensor:
    """The state or the readout [time, ...] for one signal u[time]."""
    return compare.Model(load(name, None, channel=1, **dims), via)(u.double()[None, :, None])[0][0, :, 0].detach()


def _impulse(time: int) -> Tensor:
    return torch.eye(time, dtype=torch.float64)[0]


# A mass on a spring.


def _swing(spring: float, mass: float, friction: float) -> complex:
    """The rate s of a solution e^(s t) of m y'' + r y' + k y = 0."""
    return (-friction + cmath.sqrt(friction**2 - 4 * mass * spring)) / (2 * mass)


@VIA
@pytest.mark.parametrize("friction", [0.0, 0.4])
def test_a_mass_that_is_let_go_swings_as_a_cosine_that_friction_damps(via: str, friction: float) -> None:
    dt, time = 0.05, 400
    found = _run(via, "mass_spring.sampled", torch.zeros(time), spring=3, mass=2, friction=friction, dt=dt, pulled=1)
    s = _swing(3, 2, friction)
    t = dt * torch.arange(1, time + 1, dtype=torch.float64)
    expected = torch.exp(s.real * t) * (torch.cos(s.imag * t) - s.real / s.imag * torch.sin(s.imag * t))
    compare.close(found, expected)


@VIA
@pytest.mark.parametrize("friction", [0.0, 0.4])
def test_a_struck_mass_swings_at_the_frequency_to_which_the_bilinear_method_bends_its_own(
    via: str, friction: float
) -> None:
    """An impulse h[0] = B', h[n] = A' h[n - 1]: a mode e^(s t) becomes z^n with z = (1 + s dt / 2) / (1 - s dt / 2)."""
    dt, time, mass = 0.3, 100, 2.0
    found = _run(via, "mass_spring", _impulse(time), spring=3, mass=mass, friction=friction, dt=dt)
    s = _swing(3, mass, friction)
    z = (1 + s * dt / 2) / (1 - s * dt / 2)
    # y = 2 Re(c / (1 - s dt / 2) z^n) dt, where 2 Re(c e^(s t)) = e^(Re(s) t) sin(Im(s) t) / (m Im(s)) is the impulse response.
    c = 1 / (2j * mass * s.imag)
    expected = [2 * dt * (c / (1 - s * dt / 2) * z**n).real for n in range(time)]
    compare.close(found, torch.tensor(expected, dtype=torch.float64))
    if friction == 0:
        assert cmath.phase(z) == pytest.approx(2 * math.atan(s.imag * dt / 2))
        assert abs(z) == pytest.approx(1)


@VIA
def test_driven_at_its_own_frequency_a_mass_swings_ever_wider_unless_there_is_friction(via: str) -> None:
    """y'' + y = cos t has y = t / 2 sin t."""
    dt, time = 0.05, 800
    t = dt * torch.arange(time, dtype=torch.float64)
    free = _run(via, "mass_spring", torch.cos(t), spring=1, mass=1, friction=0, dt=dt)
    compare.close(free, t / 2 * torch.sin(t), tolerance=0.03)
    damped = _run(via, "mass_spring", torch.cos(t), spring=1, mass=1, friction=0.5, dt=dt)
    assert damped[-300:].abs().max() == pytest.approx(2, rel=0.03)  # 1 / (friction * frequency)


@VIA
def test_a_frequency_too_high_for_its_steps_looks_like_a_lower_one(via: str) -> None:
    """Exact samples of omega and of 2 pi / dt - omega differ in sign alone; the bilinear method bends instead, and never folds."""
    dt, time, omega = 0.5, 60, 2.0
    alias = 2 * math.pi / dt - omega
    let_go = [_run(via, "mass_spring.sampled", torch.zeros(time), spring=w**2, dt=dt, pulled=1) for w in (omega, alias)]
    compare.close(let_go[1], let_go[0])
    n = torch.arange(1, time + 1)
    bent = 2 * math.atan(alias * dt / 2)
    assert bent < math.pi
    slow = _run(via, "mass_spring", torch.zeros(time), spring=alias**2, dt=dt, pulled=1)
    compare.close(slow, torch.cos(bent * n.double()))


# HiPPO: a state that holds the coefficients of a signal in a basis, while the signal goes on. A basis is the integral over r of
# u(moment(t, r)) f_n(r); so that nothing is cut off, the signals are of the span of the basis.

ORDER = 5
_HALF, _WEIGHTS = leggauss(40)
_UNIT, _EVEN = (_HALF + 1) / 2, _WEIGHTS / 2
_PAST, _FADING = laggauss(40)
Signal = Callable[[Array], Array]


def _legendre(n: int, r: Array) -> Array:
    """The Legendre polynomial on [0, 1]."""
    return np.asarray(Legendre.basis(n)(2 * r - 1))


def _waves(n: int, r: Array) -> Array:
    """1, and then a cosine and a sine of each frequency."""
    angle = 2 * np.pi * ((n + 1) // 2) * r
    return r**0 if n == 0 else 2**0.5 * (np.cos(angle) if n % 2 else np.sin(angle))


@dataclass(frozen=True)
class Basis:
    """What a memory holds of a signal: its moments (as they are at a time t, and their rate), functions and weights."""

    moment: Callable[[float], tuple[Array, Array]]
    function: Callable[[int], Array]
    weight: Array

    def held(self, u: Signal, t: float, order: int = ORDER) -> Array:
        at, _ = self.moment(t)
        return np.array([self.weight @ (u(at) * self.function(n)) for n in range(order)])

    def rate(self, du: Signal, t: float) -> Array:
        """How fast that changes, from the derivative of the signal."""
        at, speed = self.moment(t)
        return np.array([self.weight @ (du(at) * speed * self.function(n)) for n in range(ORDER)])


BASES = {
    "hippo_legs": Basis(lambda t: (t * _UNIT, _UNIT), lambda n: (2 * n + 1) ** 0.5 * _legendre(n, _UNIT), _EVEN),
    "hippo_legt": Basis(lambda t: (t - _UNIT, _UNIT**0), lambda n: (2 * n + 1) * _legendre(n, _UNIT), _EVEN),
    "hippo_lagt": Basis(lambda t: (t - _PAST, _PAST**0), lambda n: np.asarray(Laguerre.basis(n)(_PAST)), _FADING),
    "hippo_fourier": Basis(lambda t: (t - _UNIT, _UNIT**0), lambda n: _waves(n, _UNIT), _EVEN),
}
_POWERS: list[Signal] = [Polynomial.basis(n) for n in range(ORDER)]
_SPEEDS: list[Signal] = [Polynomial.basis(n).deriv() for n in range(ORDER)]


def _rates(via: str, name: str, step: float, position: int = 0, **dims: float) -> tuple[Array, Array]:
    """A and B, from what a step of the bilinear method does to the unit vectors: (1 - dt A / 2)^-1 (1 + dt A / 2) and
    (1 - dt A / 2)^-1 dt B."""
    ours = compare.Model(load(name, None, channel=ORDER, order=ORDER, **dims), via)
    key = next(key for key in ours(torch.zeros(1, 1, ORDER, dtype=torch.float64))[1] if key != "position")
    start = {key: torch.eye(ORDER, dtype=torch.float64)[None], "position": torch.tensor([position])}
    unit = np.eye(ORDER)
    moved = ours(torch.zeros(1, 1, ORDER, dtype=torch.float64), state=start)[0][0, 0].detach().numpy().T
    entered = ours(torch.ones(1, 1, ORDER, dtype=torch.float64), state=start)[0][0, 0].detach().numpy().T - moved
    a = 2 / step * (moved - unit) @ np.linalg.inv(moved + unit)
    return a, (unit - step / 2 * a) @ entered[:, 0] / step


@VIA
@pytest.mark.parametrize("name", ["hippo_legt", "hippo_lagt"])
def test_the_rates_are_those_of_what_is_held(via: str, name: str) -> None:
    """c' = A c + B u for all signals of the span at several times: only one A and B do that."""
    dims = {"length": 8} if name == "hippo_legt" else {"dt": 1 / 8}
    a, b = _rates(via, name, 1 / 8, **dims)
    basis = BASES[name]
    for t in (0.5, 1.3, 2.1):
        for u, du in zip(_POWERS, _SPEEDS, strict=True):
            np.testing.assert_allclose(a @ basis.held(u, t) + b * u(np.array(t)), basis.rate(du, t), atol=1e-9)


@VIA
@pytest.mark.parametrize("position", [0, 1, 10])
def test_the_rates_of_a_stretched_past_fall_as_one_over_the_time(via: str, position: int) -> None:
    a, b = _rates(via, "hippo_legs", 1 / (position + 1), position)
    basis = BASES["hippo_legs"]
    for t in (0.5, 1.3, 2.1):
        for u, du in zip(_POWERS, _SPEEDS, strict=True):
            np.testing.assert_allclose((a @ basis.held(u, t) + b * u(np.array(t))) / t, basis.rate(du, t), atol=1e-9)


@VIA
def test_the_rates_of_a_fourier_memory_are_those_of_waves_and_of_a_ramp(via: str) -> None:
    """Waves that fit the window tell A but for what the seam adds; a ramp, which jumps there, tells that."""
    a, b = _rates(via, "hippo_fourier", 1 / 8, length=8)
    basis = BASES["hippo_fourier"]
    signals: list[tuple[Signal, Signal]] = [(_POWERS[0], _SPEEDS[0]), (_POWERS[1], _SPEEDS[1])]
    for m in (1, 2):
        w = 2 * np.pi * m
        signals.append((lambda x, w=w: np.cos(w * x), lambda x, w=w: -w * np.sin(w * x)))  # type: ignore[misc]
        signals.append((lambda x, w=w: np.sin(w * x), lambda x, w=w: w * np.cos(w * x)))  # type: ignore[misc]
    for t in (0.5, 1.3, 2.1):
        for u, du in signals:
            np.testing.assert_allclose(a @ basis.held(u, t) + b * u(np.array(t)), basis.rate(du, t), atol=1e-9)


@VIA
def test_the_window_of_legendre_is_the_best_rational_delay(via: str) -> None:
    """sum(c) is u(t - 1), so 1 (s - A)^-1 B is the Pade approximant of e^-s: 2 ORDER terms of its series agree."""
    a, b = _rates(via, "hippo_legt", 1 / 8, length=8)
    x = b
    for n in range(2 * ORDER):
        x = np.linalg.solve(a, x)
        assert -x.sum() == pytest.approx((-1) ** n / math.factorial(n), rel=1e-6)


@VIA
def test_the_stretched_past_has_whole_rates_and_is_normal_but_for_rank_one(via: str) -> None:
    a, b = _rates(via, "hippo_legs", 1.0)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(a).real), np.arange(-ORDER, 0), atol=1e-6)
    np.testing.assert_allclose(a + a.T + np.outer(b, b), -np.eye(ORDER), atol=1e-9)


def _smooth(x: Array) -> Array:
    return np.asarray(np.sin(3 * x) + 0.5 * np.cos(7 * x) + 0.3 * x)


@VIA
@pytest.mark.parametrize(
    ("name", "dims", "span", "tolerance"),
    [
        ("hippo_legs", {}, 2.0, 0.03),
        ("hippo_legt", {"length": 200}, 1.0, 0.03),
        ("hippo_fourier", {"length": 200}, 1.0, 0.1),
    ],
)
def test_the_state_gives_the_signal_back(
    via: str, name: str, dims: dict[str, float], span: float, tolerance: float
) -> None:
    """After two units of time of 200 steps each, the sum of the basis is the past that the memory spans."""
    order, t = 17, 2.0
    times = (np.arange(400) + 0.5) / 200
    c = _run(via, name, torch.from_numpy(_smooth(times)), order=order, **dims)[-1].numpy()
    r = np.linspace(0.1, 0.9, 50)  # away from the ends, where a Fourier series jumps
    if name == "hippo_fourier":
        found, at = sum(c[n] * _waves(n, r) for n in range(order)), t - r
    elif name == "hippo_legt":
        found, at = sum(c[n] * _legendre(n, r) for n in range(order)), t - r
    else:
        found, at = sum(c[n] * (2 * n + 1) ** 0.5 * _legendre(n, r) for n in range(order)), t * r
    assert np.abs(found - _smooth(at)).max() < tolerance * np.abs(_smooth(at)).max(), np.abs(found - _smooth(at)).max()


@VIA
def test_a_fading_memory_gives_the_recent_signal_back(via: str) -> None:
    dt, time, order = 0.02, 600, 24
    c = _run(via, "hippo_lagt", torch.from_numpy(np.sin((np.arange(time) + 0.5) * dt)), order=order, dt=dt)[-1].numpy()
    r = np.linspace(0.1, 4, 40)
    found = sum(c[n] * np.asarray(Laguerre.basis(n)(r)) for n in range(order))
    assert np.abs(found - np.sin(time * dt - r)).max() < 0.05
