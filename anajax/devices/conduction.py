"""Conduction: the current through one memory cell at a voltage, for a cell of known conductance.

A law says how current grows with voltage; the conductance `g` of a cell says how large it is. `g` is a chord,
`I(v_ref) / v_ref`, at the law's own reference voltage `v_ref` (zero: the slope at zero volts), unless a law
says otherwise. Conductances are siemens, voltages volts, currents amperes; all functions are elementwise.
"""

from __future__ import annotations

import functools
import math
from typing import ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from anajax import _check
from anajax._record import Record, leaf, record, static
from anajax.devices import curves

#: standard scores of cells by name, as in `Cells.scores`
Scores: TypeAlias = dict[str, Array]

#: elementary charge [C] and Boltzmann constant [J/K], exact since 2019
ELEMENTARY_CHARGE = 1.602176634e-19
BOLTZMANN = 1.380649e-23

#: 20 degrees Celsius [K]
ROOM_TEMPERATURE = 293.15

# exponent of the Poole-Frenkel law: _FIELD sqrt(|v| / d_eps) / temperature
_FIELD = ELEMENTARY_CHARGE / BOLTZMANN * math.sqrt(ELEMENTARY_CHARGE / math.pi)


@record
class Conduction(Record):
    """Base of all laws. A law of your own needs `current`; all else but `spice` follows from it."""

    #: names of the standard scores that a cell keeps for its life
    life_scores: ClassVar[tuple[str, ...]] = ()
    #: whether I(g, -v) = -I(g, v)
    odd: ClassVar[bool] = True
    #: whether the current is proportional to the voltage
    linear: ClassVar[bool] = False
    by_conductance: ClassVar[bool] = True  # what a cell is given by; else by a state of any sign and unit

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A].

        Args:
          g: conductance of each cell [S].
          v: voltage across it [V], of a shape that broadcasts with `g`.
          scores: unit normals by name, each of the shape of the cells; one that is absent counts as zero.
        """
        raise NotImplementedError(f"{type(self).__name__} has no current()")

    def small_signal(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the slope dI/dv [S] at `v` [V]; arguments as for `current`."""
        v = _check.floating(v, "v")
        return jax.jvp(lambda v: self.current(g, v, scores), (v,), (jnp.ones_like(v),))[1]

    def nonlinearity(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the chord at `v` over the chord at `v / 2`: 1 is ohmic. `v` must not be zero.

        Source: Joksas et al., Adv. Sci. 9:2105784 (2022).
        """
        v = jnp.asarray(v)
        return self.current(g, v, scores) / (2 * self.current(g, v / 2, scores))

    def spice(self, g: ArrayLike, scores: Scores | None = None) -> tuple[str, dict[str, ArrayLike]]:
        """Return the current [A] as an expression of SPICE, and the numbers in it.

        The expression has the voltage as `{v}` and each number by its name, as `"{c} * sinh({v} / {v_0})"`; numbers
        broadcast with `g`. `^` and `**` lose the sign of the voltage there: write products, or `pwr(x, y)`.
        Arguments as for `current`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no spice(g, scores): define it to return its current as an expression, and"
            ' the numbers in it, such as ("{c} * sinh({v} / {v_0})", {"c": ..., "v_0": ...})'
        )


@record
class Ohmic(Conduction):
    """Ohm's law, `I = g v`: the chord is the same at every voltage."""

    linear = True

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A] of cells of conductance `g` [S] at `v` [V]."""
        return jnp.multiply(g, v)

    def small_signal(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return `g` [S], in the shape of the current."""
        return jnp.multiply(g, jnp.ones_like(v))

    def spice(self, g: ArrayLike, scores: Scores | None = None) -> tuple[str, dict[str, ArrayLike]]:
        """Return the current [A] as an expression of SPICE, and the numbers in it."""
        return "{g} * {v}", {"g": g}


@record
class Sinh(Conduction):
    """Hopping or tunnelling, `I = g v_ref sinh(v / v_0) / sinh(v_ref / v_0)`; `g` is the chord at `v_ref`.

    At `v_ref = 0` this is `g v_0 sinh(v / v_0)`; large `v_0` is Ohm's law. The form of the static part of the
    Stanford-PKU and Yakopcic compact models.

    Attributes:
      v_0: voltage at which the current leaves the straight line [V].
      v_ref: voltage at which conductances were read [V].
    """

    v_0: Array | float = leaf(gt=0)
    v_ref: Array | float = leaf(default=0.0)

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A] of cells of conductance `g` [S] at `v` [V]."""
        return jnp.multiply(g, v) * _sinhc(v / self.v_0) / _sinhc(self.v_ref / self.v_0)

    def small_signal(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the slope dI/dv [S]."""
        return jnp.multiply(g, jnp.cosh(v / self.v_0)) / _sinhc(self.v_ref / self.v_0)

    def spice(self, g: ArrayLike, scores: Scores | None = None) -> tuple[str, dict[str, ArrayLike]]:
        """Return the current [A] as an expression of SPICE, and the numbers in it."""
        return "{c} * sinh({v} / {v_0})", {"c": g * self.v_0 / _sinhc(self.v_ref / self.v_0), "v_0": self.v_0}


@record
class Power(Conduction):
    """A power of the voltage, `I = sign(v) g v_ref (|v| / v_ref)**log2(gamma)`; `g` is the chord at `v_ref`.

    `gamma` is `I(v) / I(v / 2)`, the same at every voltage. Less than 2 would be a slope without bound at
    zero volts, and is refused. Source: Mehonic et al., Front. Neurosci. 13:593 (2019).

    Attributes:
      gamma: current at `v_ref` over current at half of it; 2 is Ohm's law.
      v_ref: voltage at which conductances were read [V].
    """

    gamma: Array | float = leaf(default=2.0, ge=2)
    v_ref: Array | float = leaf(gt=0)

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A] of cells of conductance `g` [S] at `v` [V]."""
        return jnp.multiply(g, v) * self._chord(v)[0]

    def small_signal(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the slope dI/dv [S]."""
        chord, order = self._chord(v)
        return jnp.multiply(g, chord) * order

    def spice(self, g: ArrayLike, scores: Scores | None = None) -> tuple[str, dict[str, ArrayLike]]:
        """Return the current [A] as an expression of SPICE, and the numbers in it."""
        numbers = {"c": g * self.v_ref, "v_ref": self.v_ref, "order": jnp.log2(self.gamma)}
        return "{c} * pwr({v} / {v_ref}, {order})", numbers

    def _chord(self, v: ArrayLike) -> tuple[Array, Array]:
        """Return I / (g v), and d ln I / d ln v."""
        u, order, floor = jnp.abs(v) / self.v_ref, jnp.log2(self.gamma), 1e-30
        # below the floor a straight line: at zero the power has no slope by its exponent
        return jnp.maximum(u, floor) ** (order - 1), jnp.where(u > floor, order, 1.0)


class _Emission(Conduction):
    """`I = c v exp(beta sqrt(|v|))`, what both Poole-Frenkel laws share."""

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A] of cells of conductance `g` [S] at `v` [V]."""
        c, beta = self._parameters(jnp.asarray(g), scores)
        return c * v * jnp.exp(beta * _root(jnp.abs(v)))

    def small_signal(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the slope dI/dv [S]."""
        c, beta = self._parameters(jnp.asarray(g), scores)
        exponent = beta * _root(jnp.abs(v))
        return c * jnp.exp(exponent) * (1 + exponent / 2)

    def spice(self, g: ArrayLike, scores: Scores | None = None) -> tuple[str, dict[str, ArrayLike]]:
        """Return the current [A] as an expression of SPICE, and the numbers in it."""
        c, beta = self._parameters(jnp.asarray(g), scores)
        return "{c} * {v} * exp({beta} * sqrt(abs({v})))", {"c": c, "beta": beta}

    def _parameters(self, g: Array, scores: Scores | None) -> tuple[Array, Array]:
        """Return c [S] and beta [V**-1/2]."""
        raise NotImplementedError


@record
class PooleFrenkel(_Emission):
    """Emission from traps whose barrier the field lowers; `g` is the chord at `v_ref`.

        I = c v exp(e / (k T) sqrt(e |v| / (pi d_eps))),   c = g exp(-e / (k T) sqrt(e v_ref / (pi d_eps)))

    `d_eps = inf` is Ohm's law. At zero volts the slope is finite, the curvature is not; at `v_ref = 0` the
    derivative by `v_ref`, which has no bound, counts as zero. Not modelled: thermal activation of `c`, which is
    that of the conductance itself.
    Source: Joksas et al., Adv. Sci. 9:2105784 (2022).

    Attributes:
      d_eps: thickness times permittivity [F].
      temperature: temperature of the cell [K].
      v_ref: voltage at which conductances were read [V].

    Example:
      >>> law = PooleFrenkel(d_eps=2e-17, v_ref=0.1)
      >>> round(float(law.current(1e-6, 0.1) / 0.1e-6), 4), round(float(law.nonlinearity(1e-6, 0.5)), 3)
      (1.0, 1.513)
    """

    d_eps: Array | float = leaf(gt=0)
    temperature: Array | float = leaf(default=ROOM_TEMPERATURE, gt=0)
    v_ref: Array | float = leaf(default=0.0, ge=0)

    def _parameters(self, g: Array, scores: Scores | None) -> tuple[Array, Array]:
        beta = _FIELD / self.temperature * jax.lax.rsqrt(jnp.asarray(self.d_eps))
        return g * jnp.exp(-beta * _root(self.v_ref)), beta


@record
class PooleFrenkelPopulation(_Emission):
    """Poole-Frenkel cells whose two parameters follow from their resistance, with correlated residuals.

        I = c v exp(e / (k T) sqrt(e |v| / (pi d_eps))),   R = 1 / g, in ohm
        ln(c / 1 S)     = c_slope ln R + c_offset + std_c xi_c
        ln(d_eps / 1 F) = d_slope ln R + d_offset + std_d (correlation xi_c + sqrt(1 - correlation**2) xi_d)

    `g` is the chord at the voltage where R was taken for the fit, but only as closely as the fit holds:
    `current` follows c and d_eps. A cell of `g = 0` carries no current. The lines hold over the resistances
    they were fitted to; beyond, they go on. Source: Joksas et al., Adv. Sci. 9:2105784 (2022).

    Attributes:
      c_slope: slope of ln c over ln R.
      c_offset: ln c at 1 ohm.
      d_slope: slope of ln d_eps over ln R.
      d_offset: ln d_eps at 1 ohm.
      std_c: standard deviation of the residual of ln c.
      std_d: standard deviation of the residual of ln d_eps.
      correlation: correlation of the two residuals.
      temperature: temperature of the cells [K].
    """

    c_slope: Array | float = leaf()
    c_offset: Array | float = leaf()
    d_slope: Array | float = leaf()
    d_offset: Array | float = leaf()
    std_c: Array | float = leaf(default=0.0, ge=0)
    std_d: Array | float = leaf(default=0.0, ge=0)
    correlation: Array | float = leaf(default=0.0, gt=-1, lt=1)
    temperature: Array | float = leaf(default=ROOM_TEMPERATURE, gt=0)

    life_scores = ("poole_frenkel_c", "poole_frenkel_d")

    def parameters(self, g: ArrayLike, scores: Scores | None = None) -> tuple[Array, Array]:
        """Return ln(c / 1 S) and ln(d_eps / 1 F) of cells of conductance `g` > 0 [S]."""
        xi_c, xi_d = (jnp.asarray((scores or {}).get(name, 0.0)) for name in self.life_scores)
        xi_d = self.correlation * xi_c + jnp.sqrt(1 - jnp.square(self.correlation)) * xi_d
        ln_r = -jnp.log(g)
        ln_c = self.c_slope * ln_r + self.c_offset + self.std_c * xi_c
        return ln_c, self.d_slope * ln_r + self.d_offset + self.std_d * xi_d

    def _parameters(self, g: Array, scores: Scores | None) -> tuple[Array, Array]:
        on = g > 0
        ln_c, ln_d = self.parameters(jnp.where(on, g, 1.0), scores)
        beta = _FIELD / self.temperature * jnp.exp(-ln_d / 2)
        return jnp.where(on, jnp.exp(ln_c), 0.0), jnp.where(on, beta, 0.0)


@record
class Polynomial(Conduction):
    """A sum of powers of the voltage, `I = sum_k coefficients[k](g) v**orders[k]`.

    `g` is the slope at zero volts where the coefficient of order 1 is `g` itself, as in the functions below.
    A fitted polynomial holds over the voltages it was fitted to; beyond, it may even fall.

    Attributes:
      coefficients: n curves over the conductance [S], in A / V**order.
      orders: n powers of the voltage, each at least 1 (static).
    """

    coefficients: tuple[curves.Curve, ...] = leaf()
    orders: tuple[int, ...] = static()

    def check(self) -> None:
        """Check that coefficients and orders pair up."""
        if not self.orders or not all(isinstance(k, int) and k >= 1 for k in self.orders):
            raise ValueError(f"Polynomial.orders must be one or more integers of at least 1; got {self.orders}")
        if len(self.coefficients) != len(self.orders):
            raise ValueError(
                f"Polynomial.coefficients must have one curve for each of the {len(self.orders)} orders;"
                f" got {len(self.coefficients)}"
            )

    @property
    def odd(self) -> bool:
        """Whether all orders are odd."""
        return all(k % 2 for k in self.orders)

    @property
    def linear(self) -> bool:
        """Whether all orders are 1."""
        return set(self.orders) <= {1}

    def current(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the current [A] of cells of conductance `g` [S] at `v` [V]."""
        g, v = jnp.asarray(g), jnp.asarray(v)
        terms = [a(g) * v**k for a, k in zip(self.coefficients, self.orders, strict=True)]
        return functools.reduce(jnp.add, terms)

    def small_signal(self, g: ArrayLike, v: ArrayLike, scores: Scores | None = None) -> Array:
        """Return the slope dI/dv [S]."""
        g, v = jnp.asarray(g), jnp.asarray(v)
        terms = [a(g) * k * v ** (k - 1) for a, k in zip(self.coefficients, self.orders, strict=True)]
        return functools.reduce(jnp.add, terms)

    def spice(self, g: ArrayLike, scores: Scores | None = None) -> tuple[str, dict[str, ArrayLike]]:
        """Return the current [A] as an expression of SPICE, and the numbers in it."""
        terms = [" * ".join([f"{{a_{n}}}", *["{v}"] * k]) for n, k in enumerate(self.orders)]
        return " + ".join(terms), {f"a_{n}": a(jnp.asarray(g)) for n, a in enumerate(self.coefficients)}


@record
class LogPolynomial(curves.Polynomial):
    """A curve `c[0] + c[1] L + c[2] L**2 + ...` over `L = log10(g / 1 S)`, for `low <= g <= high`.

    Beyond the fitted range it is proportional to `g`: the current keeps the shape that it has at the edge.

    Attributes:
      coefficients: lowest order first; their unit is the curve's.
      low: lowest conductance of the fit [S].
      high: highest conductance of the fit [S].
    """

    low: Array | float = leaf(gt=0)
    high: Array | float = leaf(gt=0)

    def __call__(self, u: Array) -> Array:
        """Return the curve at conductance `u` [S]."""
        held = jnp.clip(u, self.low, self.high)
        return super().__call__(jnp.log10(held)) * (u / held)


def cubic(third: Array | float = -0.25) -> Polynomial:
    """Return the toy law `I = g (v + third v**3)`; `g` is the slope at zero volts.

    At the default it rises up to 1.15 V only. Source: CrossSim's example of a nonlinear cell.

    Args:
      third: relative coefficient of third order [V**-2].
    """
    first, last = curves.Polynomial(coefficients=(0.0, 1.0)), curves.Polynomial(coefficients=jnp.array([0.0, third]))
    return Polynomial(coefficients=(first, last), orders=(1, 3))


def milo_rram() -> Polynomial:
    """Return RRAM of 50 to 225 uS, `I = g v + N2 v**2 + N3 v**3`; `g` is the slope at zero volts.

    Not odd; for |v| <= 0.5 V. Fitted to four measured states from 62.5 to 110 uS, and to a state of 225 uS taken
    to be ohmic; with its four printed digits N2 there is -1.6 uA/V**2 and not zero.
    Source: Milo et al., IRPS 2021, as fitted in CrossSim.
    """
    second = np.array([7.063e-3, 5.711e-3, 1.541e-3, 1.388e-4])
    third = np.array([1.2968e-3, 6.7919e-4, 8.8710e-5])
    fits = (LogPolynomial(coefficients=c, low=50e-6, high=225e-6) for c in (second, third))
    return Polynomial(coefficients=(curves.Polynomial(coefficients=(0.0, 1.0)), *fits), orders=(1, 2, 3))


def siox_low_resistance() -> PooleFrenkelPopulation:
    """Return SiOx cells of 290 ohm to 1.4 kohm (0.69 to 3.45 mS): hardly nonlinear.

    R was taken at 0.1 V, the fitted sweeps went to 0.5 V, at an assumed 20 degrees Celsius. With the three digits
    that are printed, the chord at 0.1 V is 0.91 to 1.00 of `g`, and `nonlinearity` at 0.5 V is 1.04 to 1.11. The
    covariance of the residuals is not printed: cells are alike until you set `std_c`, `std_d` and `correlation`.
    Source: Joksas et al., Adv. Sci. 9:2105784 (2022); slopes and offsets from the names of its trained networks.
    """
    return PooleFrenkelPopulation(c_slope=-1.12, c_offset=0.628, d_slope=-1.34, d_offset=-25.9)


def siox_high_resistance() -> PooleFrenkelPopulation:
    """Return SiOx cells of 381 kohm to 1.9 Mohm (0.525 to 2.62 uS): strongly nonlinear.

    As `siox_low_resistance`, with a chord at 0.1 V of 0.93 to 0.94 of `g`, and a `nonlinearity` at 0.5 V of 1.46
    to 1.50.
    """
    return PooleFrenkelPopulation(c_slope=-1.03, c_offset=-0.251, d_slope=-0.0901, d_offset=-37.1)


def thermal_noise(g: ArrayLike, bandwidth: ArrayLike, temperature: ArrayLike = ROOM_TEMPERATURE) -> Array:
    """Return the standard deviation [A] of Johnson-Nyquist noise, `sqrt(4 k T g f)`; at `g = 0` it has no slope.

    Args:
      g: conductance [S].
      bandwidth: bandwidth f of the read [Hz].
      temperature: temperature [K].
    """
    return math.sqrt(4 * BOLTZMANN) * _root(jnp.multiply(temperature, g) * bandwidth)


def shot_noise(current: ArrayLike, bandwidth: ArrayLike) -> Array:
    """Return the standard deviation [A] of shot noise, `sqrt(2 e |I| f)`; at `I = 0` it has no slope.

    Args:
      current: mean current I [A].
      bandwidth: bandwidth f of the read [Hz].
    """
    return math.sqrt(2 * ELEMENTARY_CHARGE) * _root(jnp.abs(current) * bandwidth)


def _root(x: ArrayLike) -> Array:
    """Return the square root, without slope at zero."""
    on = jnp.asarray(x) > 1e-37  # what float32 does not flush to zero
    return jnp.where(on, jnp.sqrt(jnp.where(on, x, 1.0)), 0.0)


def _sinhc(x: ArrayLike) -> Array:
    """Return sinh(x) / x, by its series where the quotient's slope would cancel."""
    x = jnp.abs(x)  # sinh of float32 is odd only to rounding
    small = x < 0.1
    s, y = jnp.square(jnp.where(small, x, 0.0)), jnp.where(small, 1.0, x)
    return jnp.where(small, 1 + s / 6 * (1 + s / 20 * (1 + s / 42)), jnp.sinh(y) / y)
