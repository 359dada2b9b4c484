"""JART VCM v1b: filamentary valence-change memory with an implicit Schottky contact."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from anajax import _check
from anajax._record import leaf, record
from anajax.devices.memristor.models import KB, Float, Memristor, _ascending, _exp

E = 1.602176634e-19  # C: elementary charge
EPS_0 = 8.8541878128e-12  # F/m: vacuum permittivity
_TEN26 = 1e26  # 1/m^3: the unit of concentrations
# e^3 n / (8 pi^2 eps^3) [V^3] and (e h / 4 pi) sqrt(n / (m eps)) [eV] for n = 1e26/m^3 and eps = eps_0
_LOWERING = E * _TEN26 / (8 * np.pi**2 * EPS_0**3) * E**2
_W_00 = 6.62607015e-34 / (4 * np.pi) * np.sqrt(_TEN26 / (9.1093837015e-31 * EPS_0))
_TINY = 1e-5  # V: the contact is ohmic below this voltage
_SPREAD = 2.0  # standard deviations at which scores are cut


class Circuit(NamedTuple):
    """What is where in a cell: voltages [V] over the four elements in series, their current [A], temperature [K]."""

    schottky: Array
    disc: Array
    plug: Array
    series: Array
    current: Array
    temperature: Array


@record
class JART(Memristor):
    """JART VCM v1b; the state N is the concentration of oxygen vacancies in the disc under the contact.

    Concentrations count in 1e26/m^3, the published unit: in 1/m^3 their rates would overflow float32.

    In series: Schottky contact, disc, plug, series resistance, all carrying I, with A = pi r_det^2:

        R_disc = l_det / (N z e mu_n A),   R_plug = (l_cell - l_det) / (N_plug z e mu_n A)
        R_series = R_TiOx + R_0 (1 + R_0 alpha_line R_th_line I^2)
        V >= 0 (RESET): I = A A* T^2 e^(-phi / kT) (e^(V_s / kT) - 1)
        V < 0 (SET): I = -A A* T / k sqrt(pi W_00 (|V_s| + phi / cosh^2(W_00 / kT))) e^(-phi / W_0) (e^(|V_s| / W') - 1)
        W_00 = (h / 4 pi) sqrt(z N / (m eps)),  W_0 = W_00 / tanh(W_00 / kT),  W' = W_00 / (W_00 / kT - tanh(W_00 / kT))
        phi = max(0, phi_Bn0 - (e^3 z N (phi_Bn0 - phi_n - V_s) / (8 pi^2 eps_phiB^3))^(1/4))
        T = T_0 + I (V_s + V_disc + V_plug) R_th0 (r_nominal / r_det)^2 (times R_th_reset in RESET)
        dN/dt = -(c a nu_0 / l_det) (e^(-W_min / kT) - e^(-W_max / kT)) F,   c = (N_plug + N) / 2
        W_min/max = dW_A (sqrt(1 - g^2) -/+ g pi / 2 + g asin g),   g = z a E / (pi dW_A)
        E = (V_s + V_disc + V_plug) / l_cell in RESET, V_disc / l_det in SET
        F = 1 - (N_min / N)^10 in RESET, 1 - (N / N_max)^10 in SET

    (energies in eV). V_s is the solution of an implicit equation, found by a bracketed Newton method and
    differentiated implicitly. For V > phi_Bn0 - phi_n two solutions may exist, because the barrier lowering
    ends there with infinite slope: then the one with the larger V_s is taken, and where it comes into being
    the current jumps. A field that would lower the hopping barrier below zero counts as one that removes it.

    Variability from device to device: `vary`. Not modelled: variability from cycle to cycle, heat capacity.
    Source: Bengel et al., IEEE TCAS-I 67:4618 (2020), with the defaults of the published code; restated from
    public ports of it.

    Attributes:
      initial: concentration at the start [1e26/m^3].
      N_min: lowest concentration [1e26/m^3].
      N_max: highest concentration [1e26/m^3].
      N_plug: concentration in the plug [1e26/m^3].
      r_det: radius of the filament [m].
      r_nominal: radius to which R_th0 belongs [m].
      l_det: length of the disc [m].
      l_cell: length of disc and plug [m].
      R_TiOx: resistance of the TiOx layer [ohm].
      R_0: resistance of the lines at T_0 [ohm].
      R_th_line: thermal resistance of the lines [K/W].
      alpha_line: their temperature coefficient [1/K].
      A_star: Richardson constant [A/(m^2 K^2)].
      z: charge number of a vacancy.
      eps: relative static permittivity.
      eps_phiB: relative permittivity of the barrier lowering.
      phi_Bn0: barrier height [eV].
      phi_n: distance of the Fermi level from the conduction band [eV].
      mu_n: electron mobility [m^2/(V s)].
      a: hopping distance [m].
      nu_0: attempt frequency [Hz].
      dW_A: activation energy of hopping [eV].
      R_th0: thermal resistance of the filament [K/W].
      R_th_reset: factor on it in RESET.
      T_0: ambient temperature [K].
    """

    initial: Float = leaf(default=0.008, gt=0)
    N_min: Float = leaf(default=0.008, gt=0)
    N_max: Float = leaf(default=20.0, gt=0)
    N_plug: Float = leaf(default=20.0, gt=0)
    r_det: Float = leaf(default=45e-9, gt=0)
    r_nominal: Float = leaf(default=45e-9, gt=0)
    l_det: Float = leaf(default=0.4e-9, gt=0)
    l_cell: Float = leaf(default=3e-9, gt=0)
    R_TiOx: Float = leaf(default=650.0, ge=0)
    R_0: Float = leaf(default=719.2437, gt=0)
    R_th_line: Float = leaf(default=90471.47, gt=0)
    alpha_line: Float = leaf(default=3.92e-3, gt=0)
    A_star: Float = leaf(default=6.01e5, gt=0)
    z: Float = leaf(default=2.0, gt=0)
    eps: Float = leaf(default=17.0, gt=0)
    eps_phiB: Float = leaf(default=5.5, gt=0)
    phi_Bn0: Float = leaf(default=0.18, gt=0)
    phi_n: Float = leaf(default=0.1, gt=0)
    mu_n: Float = leaf(default=4e-6, gt=0)
    a: Float = leaf(default=0.25e-9, gt=0)
    nu_0: Float = leaf(default=2e13, gt=0)
    dW_A: Float = leaf(default=1.35, gt=0)
    R_th0: Float = leaf(default=15.72e6, ge=0)
    R_th_reset: Float = leaf(default=0.27, ge=0)
    T_0: Float = leaf(default=293.0, gt=0)

    logarithmic = True

    def check(self) -> None:
        """Check that concentrations, lengths and energies are in order."""
        _ascending(self, "N_min", "N_max")
        _ascending(self, "l_det", "l_cell")
        _ascending(self, "phi_n", "phi_Bn0")

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the concentration [1e26/m^3]."""
        return self.N_min, self.N_max

    @staticmethod
    def scores(key: Array, shape: tuple[int, ...]) -> dict[str, Array]:
        """Draw the scores of an array of cells for `vary`: unit normals cut at two standard deviations."""
        names = ("N_min", "N_max", "r_det", "l_det")
        keys = jax.random.split(key, len(names))
        return {n: jax.random.truncated_normal(k, -_SPREAD, _SPREAD, shape) for n, k in zip(names, keys, strict=True)}

    def vary(self, scores: dict[str, Array]) -> JART:
        """Return cells that differ from one another.

        A field named in `scores` is multiplied by a factor whose logarithm is linear in the score, on either
        side of zero, and which at scores of -2 and 2 reaches the published bounds: r_det, l_det and N_max 0.9
        and 1.1, N_min 0.5 and 31.25. (The bounds are published; the distribution between them is ours.)

        Args:
          scores: standard scores by field, from `scores`; any shape.
        """
        factors = {"N_min": (0.5, 31.25), "N_max": (0.9, 1.1), "r_det": (0.9, 1.1), "l_det": (0.9, 1.1)}
        for name in scores:
            _check.choice(name, "a name in scores", tuple(factors))
        logs = {n: np.log(factors[n]) / _SPREAD for n in scores}
        spread = {n: jnp.exp(jnp.where(s < 0, -logs[n][0], logs[n][1]) * s) for n, s in scores.items()}
        return self.replace(**{n: getattr(self, n) * factor for n, factor in spread.items()})

    def circuit(self, x: Float, v: Float) -> Circuit:
        """Return voltages, current and temperature at concentration `x` [1e26/m^3] and voltage `v` [V].

        A contact voltage that was not found is NaN, and so are the others then.
        """
        x, v = jnp.asarray(x), jnp.asarray(v)
        # below _TINY everything is linear: the shares of the elements are those at _TINY
        direction = jnp.where(v < 0, -1.0, 1.0)
        v_share = direction * jnp.maximum(jnp.abs(v), _TINY)
        u = self._share(x, v_share)
        i = self._ohmic(x, v * jax.nn.sigmoid(-u))
        disc, plug = self._resistances(x)
        rest = v - i * self._series(i)
        return Circuit(v * jax.nn.sigmoid(u), i * disc, i * plug, i * self._series(i), i, self._temperature(i, v, rest))

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at concentration `x` [1e26/m^3] and voltage `v` [V]."""
        return self.circuit(x, v).current

    def rate(self, x: Float, v: Float) -> Array:
        """Return dN/dt [1e26/(m^3 s)] at concentration `x` [1e26/m^3] and voltage `v` [V]."""
        at = self.circuit(x, v)
        reset = jnp.asarray(v) >= 0
        field = jnp.where(reset, (at.schottky + at.disc + at.plug) / self.l_cell, at.disc / self.l_det)
        g = jnp.clip(self.z * self.a * field / (np.pi * self.dW_A), -0.999999, 0.999999)
        middle = jnp.sqrt(1 - g**2) + g * jnp.arcsin(g)
        kT = KB * at.temperature
        hops = _exp(-self.dW_A * (middle - g * np.pi / 2) / kT) - _exp(-self.dW_A * (middle + g * np.pi / 2) / kT)
        full = 1 - jnp.where(reset, self.N_min / x, x / self.N_max) ** 10
        return -(self.N_plug + x) / 2 * (self.a * self.nu_0 / self.l_det) * hops * full

    def _resistances(self, x: Array) -> tuple[Array, Float]:
        conductivity = self.z * (E * _TEN26) * self.mu_n * np.pi * self.r_det**2
        disc = self.l_det / (x * conductivity)
        return disc, (self.l_cell - self.l_det) / (self.N_plug * conductivity)

    def _series(self, i: Array) -> Array:
        return self.R_TiOx + self.R_0 * (1 + self.R_0 * self.alpha_line * self.R_th_line * i**2)

    def _ohmic(self, x: Array, v: Array) -> Array:
        """Return the current [A] through disc, plug and series resistance that have `v` [V] together."""
        disc, plug = self._resistances(x)
        linear = disc + plug + self.R_TiOx + self.R_0
        # the one real root of linear i + cubic i^3 = v
        scale = jnp.sqrt(linear / (3 * self.R_0**2 * self.alpha_line * self.R_th_line))
        return 2 * scale * jnp.sinh(jnp.arcsinh(1.5 * v / (linear * scale)) / 3)

    def _temperature(self, i: Array, v: Array, inner: Array) -> Array:
        thermal = self.R_th0 * (self.r_nominal / self.r_det) ** 2
        return self.T_0 + i * inner * thermal * jnp.where(v >= 0, self.R_th_reset, 1.0)

    def _contact(self, x: Array, v: Array, u: Array, lowered: Array | bool) -> Array:
        """Return ln(ohmic current / contact current) with the share sigmoid(u) of `v` over the contact."""
        over, i = jnp.abs(v) * jax.nn.sigmoid(u), self._ohmic(x, v * jax.nn.sigmoid(-u))
        kT = KB * self._temperature(i, v, v - i * self._series(i))
        n = self.z * x
        psi = self.phi_Bn0 - self.phi_n - jnp.where(v < 0, -over, over)
        on = lowered & (psi > 0)
        lowering = jnp.where(on, (_LOWERING / self.eps_phiB**3 * n * jnp.where(on, psi, 1.0)) ** 0.25, 0.0)
        phi = jnp.maximum(self.phi_Bn0 - lowering, 0.0)
        area = np.pi * self.r_det**2 * self.A_star * kT / KB  # times T: A A* T
        emission = jnp.log(area * kT / KB) - phi / kT + _log_expm1(over / kT)
        w_00 = _W_00 * jnp.sqrt(n / self.eps)
        y = w_00 / kT
        root = jnp.log(np.pi * w_00 * (over + phi / jnp.cosh(y) ** 2)) / 2
        field = jnp.log(area / KB) + root - phi * jnp.tanh(y) / w_00 + _log_expm1(over * (y - jnp.tanh(y)) / w_00)
        return jnp.log(jnp.abs(i)) - jnp.where(v < 0, field, emission)

    def _share(self, x: Array, v: Array) -> Array:
        """Return the logit of the share of `v` that lies over the contact."""
        x, v = jnp.broadcast_arrays(x, v)
        top = jnp.asarray(40.0, jnp.result_type(x, v, float))
        end = self.phi_Bn0 - self.phi_n  # contact voltage at which the barrier lowering ends
        beyond = v > end
        corner = jnp.where(beyond, jnp.log(end / jnp.where(beyond, v - end, 1.0)), top)
        upper = beyond & (self._contact(x, v, corner, False) > 0)
        low, high = jnp.where(upper, corner, -top), jnp.where(upper, top, corner)

        def f(u: Array) -> Array:
            return self._contact(x, v, u, ~upper)

        def tangent(g, y):  # type: ignore[no-untyped-def]
            return y / g(jnp.ones_like(y))  # elementwise: the Jacobian is diagonal

        low, high = lax.stop_gradient((low, high))
        return lax.custom_root(f, (low + high) / 2, lambda f, _: _falling_root(f, low, high), tangent)


def _log_expm1(x: Array) -> Array:
    """Return ln(e^x - 1) for x > 0, without overflow."""
    return x + jnp.log(-jnp.expm1(-x))


def _falling_root(f, low: Array, high: Array) -> Array:  # type: ignore[no-untyped-def]
    """Return where `f`, positive at `low` and negative at `high`, is zero; elementwise.

    Newton's method kept within a bracket that every evaluation narrows; where a step would leave it, or is not
    half of the one before the last, the bracket is halved instead. NaN where it does not settle.
    """
    eps = 100 * jnp.finfo(low.dtype).eps  # of numbers whose logarithms are about 30, with their rounding

    def unsettled(state):  # type: ignore[no-untyped-def]
        return (state[0] < 100) & jnp.any(~state[-1])

    def improve(state):  # type: ignore[no-untyped-def]
        k, low, high, u, last, before, done = state
        y, slope = jax.jvp(f, (u,), (jnp.ones_like(u),))
        low, high = jnp.where(y > 0, u, low), jnp.where(y > 0, high, u)
        newton = -y / jnp.where(slope == 0, 1.0, slope)
        inside = (u + newton >= low) & (u + newton <= high) & (jnp.abs(newton) <= jnp.abs(before) / 2) & (slope < 0)
        step = jnp.where(inside, newton, (low + high) / 2 - u)
        settled = (jnp.abs(step) <= eps * (1 + jnp.abs(u))) & ~jnp.isnan(y)
        return k + 1, low, high, jnp.where(done, u, u + step), step, last, done | settled

    start = (low + high) / 2
    wide = high - low
    state = (0, low, high, start, 2 * wide, 4 * wide, jnp.zeros(low.shape, bool))
    *_, u, _, _, done = lax.while_loop(unsettled, improve, state)
    return jnp.where(done, u, jnp.nan)
