"""Compact models of one state variable: linear ion drift, VTEAM, Yakopcic, Stanford-PKU, Messaris.

State, voltage and fields broadcast against each other; everything is elementwise. Dead branches are given
harmless arguments, so that derivatives are finite everywhere.
"""

from __future__ import annotations

from typing import NoReturn

import jax.numpy as jnp
import numpy as np
from jax import Array

from anajax import _check
from anajax._record import Record, leaf, record, static

Float = Array | float

KB = 8.617333262e-5  # V/K: Boltzmann's constant over the elementary charge
_STEEPEST = 60.0  # largest exponent: exp(60) = 1e26 is beyond any physical rate, and float32 still holds it


@record
class Memristor(Record):
    """Base of all compact models.

    A model of your own defines `rate`, `current`, `bounds` and a float field `initial`.

    Attributes:
      initial: state of a cell where a simulation is given none; a state outside the bounds counts as the
        bound. Each model has its own.
    """

    initial: Float = leaf()

    #: whether the solver controls the error of the logarithm of the state, for states that span decades
    logarithmic = False

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the state, lowest and highest."""
        self._lacks("bounds")

    @property
    def thresholds(self) -> tuple[Float, ...]:
        """Voltages [V] at which the rate bends, whatever the state; the solver steps to where a drive crosses one."""
        return ()

    def rate(self, x: Float, v: Float) -> Array:
        """Return dx/dt [unit of the state per s] at state `x` and voltage `v` [V].

        At constant state its sign follows from that of `v`. It knows nothing of the rails: the solver stops
        the state there.
        """
        self._lacks("rate")

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at state `x` and voltage `v` [V]."""
        self._lacks("current")

    def _lacks(self, method: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {method}: a Memristor must define it")


# --- linear ion drift ----------------------------------------------------------------------------------


@record
class Joglekar(Record):
    """Window f(x) = 1 - (2x - 1)^(2p): zero at both rails, one in the middle.

    A state that reaches a rail stays there for ever. Source: Joglekar & Wolf, Eur. J. Phys. 30:661 (2009).

    Attributes:
      p: steepness; the larger, the closer to a rectangle.
    """

    p: Float = leaf(default=1.0, gt=0)

    def __call__(self, x: Float, i: Float) -> Array:
        """Return the window at state `x`, whatever the current `i`."""
        return 1 - _power((2 * x - 1) ** 2, self.p)


@record
class Biolek(Record):
    """Window f(x, i) = 1 - (x - step(-i))^(2p): closes only at the rail that the state moves towards.

    1 - x^(2p) for i > 0 and 1 - (x - 1)^(2p) for i <= 0. Source: Biolek et al., Radioengineering 18:210 (2009).

    Attributes:
      p: steepness.
    """

    p: Float = leaf(default=1.0, gt=0)

    def __call__(self, x: Float, i: Float) -> Array:
        """Return the window at state `x` for current `i` [A]."""
        return 1 - _power(jnp.where(i > 0, x, 1 - x) ** 2, self.p)


@record
class Prodromakis(Record):
    """Window f(x) = j (1 - [(x - 1/2)^2 + 3/4]^p): zero at both rails, of any height.

    Source: Prodromakis et al., IEEE Trans. Electron Devices 58:3099 (2011).

    Attributes:
      p: shape.
      j: factor.
    """

    p: Float = leaf(default=1.0, gt=0)
    j: Float = leaf(default=1.0, gt=0)

    def __call__(self, x: Float, i: Float) -> Array:
        """Return the window at state `x`, whatever the current `i`."""
        return self.j * (1 - _power((x - 0.5) ** 2 + 0.75, self.p))


@record
class LinearIonDrift(Memristor):
    """The first memristor model: a doped part of width x D, in series with an undoped one.

        R = R_on x + R_off (1 - x),   i = v / R,   dx/dt = (mu_v R_on / D^2) i f(x)

    with 0 <= x <= 1 and a window f. With thresholds the state moves only for v > v_positive or v < v_negative;
    the switch rises smoothly (as 3s^2 - 2s^3) over `v_width` beyond the threshold, because a hard one has no
    derivative by the threshold. `v_width=0` makes it hard.

    Not modelled: nonlinear conduction, temperature, retention.
    Source: Strukov et al., Nature 453:80 (2008); R_on, R_off, D, mu_v as in MemTorch.

    Attributes:
      initial: state at the start.
      R_on: resistance at x = 1 [ohm].
      R_off: resistance at x = 0 [ohm].
      D: thickness of the film [m].
      mu_v: mobility of the dopants [m^2/(V s)].
      window: `Joglekar`, `Biolek`, `Prodromakis`, any record called with (x, i), or `None` for f = 1.
      v_positive: threshold of positive voltages [V], or `None`; published: 0.55.
      v_negative: threshold of negative voltages [V], or `None`; published: -0.55.
      v_width: range over which a threshold opens [V].
    """

    initial: Float = leaf(default=0.1, ge=0, le=1)
    R_on: Float = leaf(default=100.0, gt=0)
    R_off: Float = leaf(default=16e3, gt=0)
    D: Float = leaf(default=10e-9, gt=0)
    mu_v: Float = leaf(default=1e-14, gt=0)
    window: Record | None = leaf(default=None)
    v_positive: Float | None = leaf(default=None, gt=0)
    v_negative: Float | None = leaf(default=None, lt=0)
    v_width: Float = leaf(default=5e-3, ge=0)

    def check(self) -> None:
        """Check that the window is one."""
        if self.window is not None and not callable(self.window):
            raise TypeError(f"LinearIonDrift.window must be a window such as Joglekar() or None; got {self.window!r}")

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the state: 0 and 1."""
        return 0.0, 1.0

    @property
    def thresholds(self) -> tuple[Float, ...]:
        """Both ends of each threshold [V]."""
        up = () if self.v_positive is None else (self.v_positive, self.v_positive + self.v_width)
        down = () if self.v_negative is None else (self.v_negative, self.v_negative - self.v_width)
        return up + down

    def rate(self, x: Float, v: Float) -> Array:
        """Return dx/dt [1/s] at voltage `v` [V]."""
        i = self.current(x, v)
        dx = self.mu_v * self.R_on / self.D**2 * i
        if self.window is not None:
            dx = dx * self.window(x, i)  # type: ignore[operator]
        if self.v_positive is not None:
            dx = dx * jnp.where(v > 0, _switch(v - self.v_positive, self.v_width), 1.0)
        if self.v_negative is not None:
            dx = dx * jnp.where(v < 0, _switch(self.v_negative - v, self.v_width), 1.0)
        return dx

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at voltage `v` [V]."""
        return jnp.asarray(v / (self.R_on * x + self.R_off * (1 - x)))


# --- VTEAM ---------------------------------------------------------------------------------------------


@record
class VTEAM(Memristor):
    """Voltage thresholds and power laws; the state 0 <= x <= d is a length.

        dx/dt = k_off (v / v_off - 1)^alpha_off   for v >= v_off > 0,
                k_on (v / v_on - 1)^alpha_on      for v <= v_on < 0,     0 between.

    The resistance runs from R_on at x = 0 to R_off at x = d, linearly in x or (`resistance="exponential"`)
    as R_on exp(ln(R_off / R_on) x / d). Not modelled: windows, nonlinear conduction, temperature, retention.
    Source: Kvatinsky et al., IEEE TCAS-II 62:786 (2015); the defaults are those of MemTorch.

    Attributes:
      initial: state at the start [m].
      R_on: resistance at x = 0 [ohm].
      R_off: resistance at x = d [ohm].
      d: largest state [m].
      k_on: speed towards R_on [m/s], negative.
      k_off: speed towards R_off [m/s].
      alpha_on: exponent towards R_on.
      alpha_off: exponent towards R_off.
      v_on: threshold towards R_on [V], negative.
      v_off: threshold towards R_off [V].
      resistance: `"linear"` or `"exponential"`.
    """

    initial: Float = leaf(default=0.0, ge=0)
    R_on: Float = leaf(default=50.0, gt=0)
    R_off: Float = leaf(default=1000.0, gt=0)
    d: Float = leaf(default=3e-9, gt=0)
    k_on: Float = leaf(default=-10.0, lt=0)
    k_off: Float = leaf(default=5e-4, gt=0)
    alpha_on: Float = leaf(default=3.0, gt=0)
    alpha_off: Float = leaf(default=1.0, gt=0)
    v_on: Float = leaf(default=-0.2, lt=0)
    v_off: Float = leaf(default=0.02, gt=0)
    resistance: str = static(default="linear", choices=("linear", "exponential"))

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the state: 0 and `d` [m]."""
        return 0.0, self.d

    @property
    def thresholds(self) -> tuple[Float, ...]:
        """Both thresholds [V]."""
        return self.v_off, self.v_on

    def rate(self, x: Float, v: Float) -> Array:
        """Return dx/dt [m/s] at voltage `v` [V]; it does not depend on the state."""
        off = self.k_off * _power(v / self.v_off - 1, self.alpha_off)
        on = self.k_on * _power(v / self.v_on - 1, self.alpha_on)
        return jnp.broadcast_to(off + on, jnp.broadcast_shapes(jnp.shape(x), jnp.shape(off)))

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at voltage `v` [V]."""
        part = x / self.d
        if self.resistance == "linear":
            return jnp.asarray(v / (self.R_on + (self.R_off - self.R_on) * part))
        return v / self.R_on * jnp.exp(-jnp.log(self.R_off / self.R_on) * part)


# --- Yakopcic ------------------------------------------------------------------------------------------


@record
class Yakopcic(Memristor):
    """The generalised model of Yakopcic: exponential thresholds, motion that slows down near the rails.

        i = a_1 x sinh(b v) for v >= 0, a_2 x sinh(b v) for v < 0;      dx/dt = eta g(v) f(x)
        g = A_p (e^v - e^V_p) for v > V_p, -A_n (e^-v - e^V_n) for v < -V_n, 0 between
        f = e^(-alpha_p (x - x_p)) (1 - x) / (1 - x_p)     where eta v >= 0 and x >= x_p,
            e^(alpha_n (x + x_n - 1)) x / (1 - x_n)        where eta v < 0 and x <= 1 - x_n,     else 1.

    Not modelled: temperature, retention. Source: Yakopcic et al., IJCNN 2013, the generalised parameter set.

    Attributes:
      initial: state at the start, 0 to 1.
      a_1: current factor of positive voltages [A].
      a_2: current factor of negative voltages [A].
      b: steepness of the conduction [1/V].
      V_p: positive threshold [V].
      V_n: magnitude of the negative threshold [V].
      A_p: speed beyond the positive threshold [1/s].
      A_n: speed beyond the negative threshold [1/s].
      x_p: state above which rising slows down.
      x_n: 1 - x_n is the state below which falling slows down.
      alpha_p: how fast rising slows down.
      alpha_n: how fast falling slows down.
      eta: 1, or -1 where a positive voltage lowers the state.
    """

    initial: Float = leaf(default=0.11, ge=0, le=1)
    a_1: Float = leaf(default=0.17, gt=0)
    a_2: Float = leaf(default=0.17, gt=0)
    b: Float = leaf(default=0.05, gt=0)
    V_p: Float = leaf(default=0.16, ge=0)
    V_n: Float = leaf(default=0.15, ge=0)
    A_p: Float = leaf(default=4000.0, ge=0)
    A_n: Float = leaf(default=4000.0, ge=0)
    x_p: Float = leaf(default=0.3, ge=0, lt=1)
    x_n: Float = leaf(default=0.5, ge=0, lt=1)
    alpha_p: Float = leaf(default=1.0, ge=0)
    alpha_n: Float = leaf(default=5.0, ge=0)
    eta: int = static(default=1, choices=(1, -1))

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the state: 0 and 1."""
        return 0.0, 1.0

    @property
    def thresholds(self) -> tuple[Float, ...]:
        """Both thresholds [V]."""
        return self.V_p, -self.V_n

    def rate(self, x: Float, v: Float) -> Array:
        """Return dx/dt [1/s] at voltage `v` [V]."""
        up = self.A_p * jnp.where(v > self.V_p, _exp(v) - _exp(self.V_p), 0.0)
        down = self.A_n * jnp.where(v < -self.V_n, _exp(-v) - _exp(self.V_n), 0.0)
        rising = jnp.exp(-self.alpha_p * (x - self.x_p)) * (1 - x) / (1 - self.x_p)
        falling = jnp.exp(self.alpha_n * (x + self.x_n - 1)) * x / (1 - self.x_n)
        slow_up = jnp.where(x >= self.x_p, rising, 1.0)
        slow_down = jnp.where(x <= 1 - self.x_n, falling, 1.0)
        return self.eta * (up - down) * jnp.where(self.eta * v >= 0, slow_up, slow_down)

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at voltage `v` [V]."""
        return jnp.where(v >= 0, self.a_1, self.a_2) * x * _sinh(self.b * v)


# --- Stanford-PKU --------------------------------------------------------------------------------------


@record
class StanfordPKU(Memristor):
    """RRAM whose state is the gap g [m] between filament and electrode; a positive voltage closes it (SET).

        I = I_0 e^(-g / g_0) sinh(V / V_0),   T = T_0 + V I R_th,   gamma = gamma_0 - beta (g / 1 nm)^3
        dg/dt = -v_0 e^(-E_a / kT) sinh(gamma a_0 V / (t_ox kT))   where gamma |V| / t_ox >= F_min, else 0; gamma >= 0

    (energies in eV). The temperature belongs to the present current: published codes use the current of the
    step before. The switch at F_min rises smoothly (as 3s^2 - 2s^3) over `F_width` above it, because a hard one
    has no derivative by F_min; `F_width=0` makes it hard. Exponents are capped at 60, beyond any physical rate.
    Not modelled: the random walk of the gap, heat capacity, current compliance.
    Source: Jiang et al., SISPAD 2014, and Guan et al., IEEE EDL 33:1405 (2012); the defaults are those of MemTorch,
    whose resistance bounds of 542 ohm and 218.6 kohm at 0.1 V are gaps of 0.2 and 1.7 nm.

    Attributes:
      initial: gap at the start [m].
      I_0: current prefactor [A].
      g_0: decay length of the current [m].
      V_0: voltage scale of the current [V].
      T_0: ambient temperature [K].
      R_th: thermal resistance [K/W].
      gamma_0: field enhancement at gap 0.
      beta: how field enhancement falls with the gap.
      t_ox: thickness of the oxide [m].
      F_min: local field below which the gap rests [V/m].
      F_width: range of fields over which motion sets in [V/m].
      v_0: attempt velocity [m/s].
      E_a: activation energy [eV].
      a_0: hopping distance [m].
      gap_min: smallest gap [m].
      gap_max: largest gap [m].
    """

    initial: Float = leaf(default=0.2e-9, ge=0)
    I_0: Float = leaf(default=1e-3, gt=0)
    g_0: Float = leaf(default=0.25e-9, gt=0)
    V_0: Float = leaf(default=0.25, gt=0)
    T_0: Float = leaf(default=298.0, gt=0)
    R_th: Float = leaf(default=2.1e3, ge=0)
    gamma_0: Float = leaf(default=16.0, gt=0)
    beta: Float = leaf(default=0.8, ge=0)
    t_ox: Float = leaf(default=12e-9, gt=0)
    F_min: Float = leaf(default=1.4e9, ge=0)
    F_width: Float = leaf(default=1e7, ge=0)
    v_0: Float = leaf(default=10.0, gt=0)
    E_a: Float = leaf(default=0.6, gt=0)
    a_0: Float = leaf(default=0.25e-9, gt=0)
    gap_min: Float = leaf(default=0.2e-9, ge=0)
    gap_max: Float = leaf(default=1.7e-9, gt=0)

    def check(self) -> None:
        """Check that the gap has room."""
        _ascending(self, "gap_min", "gap_max")

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the gap [m]."""
        return self.gap_min, self.gap_max

    def temperature(self, x: Float, v: Float) -> Array:
        """Return the temperature [K] of the filament at gap `x` [m] and voltage `v` [V]."""
        return self.T_0 + v * self.current(x, v) * self.R_th

    def rate(self, x: Float, v: Float) -> Array:
        """Return dg/dt [m/s] at gap `x` [m] and voltage `v` [V]."""
        kT = KB * self.temperature(x, v)
        # beyond the gap where gamma is zero there is no field, and none that drives the other way
        field = jnp.maximum(self.gamma_0 - self.beta * (x / 1e-9) ** 3, 0.0) * v / self.t_ox
        # sinh of the whole exponent: the product of e^(-E_a / kT) and a huge sinh would overflow
        set_ = _exp((field * self.a_0 - self.E_a) / kT)
        reset = _exp((-field * self.a_0 - self.E_a) / kT)
        return -0.5 * self.v_0 * (set_ - reset) * _switch(jnp.abs(field) - self.F_min, self.F_width)

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at gap `x` [m] and voltage `v` [V]."""
        return self.I_0 * jnp.exp(-x / self.g_0) * _sinh(v / self.V_0)


# --- Messaris ------------------------------------------------------------------------------------------


@record
class Messaris(Memristor):
    """Data-driven model whose state is the resistance R [ohm], driven towards a voltage-dependent goal r(v).

        dR/dt = s(v) (r(v) - R)^2   where s has the sign of r - R, else 0
        s = A (e^(|v| / t) - 1),   r = r_0 + r_1 v,   I = a sinh(b v) / R

    with A, t, r_0, r_1 of the sign of v. A constant voltage has the closed form
    1 / (r - R(t)) = 1 / (r - R(0)) + s t. Not modelled: temperature, retention.
    Source: Messaris et al., IEEE TCAD 37:3151 (2018); the default set is the first of MemTorch's two.

    Attributes:
      initial: resistance at the start [ohm].
      R_on: lowest resistance [ohm].
      R_off: highest resistance [ohm].
      A_p: rate of positive voltages [1/(ohm s)]; its sign is the direction.
      A_n: rate of negative voltages [1/(ohm s)].
      t_p: voltage scale of the positive rate [V].
      t_n: voltage scale of the negative rate [V].
      r_p0: goal of positive voltages, at zero [ohm].
      r_p1: its slope [ohm/V].
      r_n0: goal of negative voltages, at zero [ohm].
      r_n1: its slope [ohm/V].
      a: current factor [V].
      b: steepness of the conduction [1/V].
    """

    initial: Float = leaf(default=10e3, gt=0)
    R_on: Float = leaf(default=1280.0, gt=0)
    R_off: Float = leaf(default=17e3, gt=0)
    A_p: Float = leaf(default=743.47)
    A_n: Float = leaf(default=-68012.28374)
    t_p: Float = leaf(default=6.51)
    t_n: Float = leaf(default=0.31645)
    r_p0: Float = leaf(default=16719.0)
    r_p1: Float = leaf(default=0.0)
    r_n0: Float = leaf(default=29304.82557)
    r_n1: Float = leaf(default=23692.77225)
    a: Float = leaf(default=0.24, gt=0)
    b: Float = leaf(default=3.0, gt=0)

    def check(self) -> None:
        """Check that the resistances have room."""
        _ascending(self, "R_on", "R_off")

    @property
    def bounds(self) -> tuple[Float, Float]:
        """Rails of the resistance [ohm]."""
        return self.R_on, self.R_off

    def rate(self, x: Float, v: Float) -> Array:
        """Return dR/dt [ohm/s] at resistance `x` [ohm] and voltage `v` [V]."""
        positive = v >= 0
        A, t = jnp.where(positive, self.A_p, self.A_n), jnp.where(positive, self.t_p, self.t_n)
        speed = A * jnp.expm1(jnp.minimum(jnp.abs(v) / t, _STEEPEST))
        goal = jnp.where(positive, self.r_p0 + self.r_p1 * v, self.r_n0 + self.r_n1 * v)
        return jnp.where(speed * (goal - x) > 0, speed * (goal - x) ** 2, 0.0)

    def current(self, x: Float, v: Float) -> Array:
        """Return the current [A] at resistance `x` [ohm] and voltage `v` [V]."""
        return self.a / x * _sinh(self.b * v)


def messaris_2021() -> Messaris:
    """Return the second published set of `Messaris`, as in MemTorch: positive voltages lower the resistance."""
    return Messaris(
        initial=2500.0,
        R_on=1600.0,
        R_off=3000.0,
        A_p=600.10075,
        A_n=-34.5988399,
        t_p=-0.0212028,
        t_n=-0.05343997,
        r_p0=2699.2336,
        r_p1=-672.930205,
        r_n0=649.413746,
        r_n1=-1474.32358,
        a=0.32046175,
        b=2.71689828,
    )


# --- small functions -----------------------------------------------------------------------------------


def _power(base: Float, exponent: Float) -> Array:
    """Return base^exponent, and 0 with zero derivatives where the base is not positive."""
    on = jnp.asarray(base) > 0
    return jnp.where(on, jnp.exp(exponent * jnp.log(jnp.where(on, base, 1.0))), 0.0)


def _exp(x: Float) -> Array:
    return jnp.exp(jnp.minimum(x, _STEEPEST))


def _sinh(x: Float) -> Array:
    return jnp.sinh(jnp.clip(x, -_STEEPEST, _STEEPEST))


def _switch(excess: Float, width: Float) -> Array:
    """Return 0 below zero excess and 1 above `width`, smooth between."""
    hard = jnp.asarray(width) <= 0
    s = jnp.where(hard, jnp.where(jnp.asarray(excess) >= 0, 1.0, 0.0), excess / jnp.where(hard, 1.0, width))
    s = jnp.clip(s, 0.0, 1.0)
    return s * s * (3 - 2 * s)


def _ascending(model: Memristor, low: str, high: str) -> None:
    a, b = getattr(model, low), getattr(model, high)
    if _check.is_concrete(a) and _check.is_concrete(b) and not np.all(np.asarray(a) < np.asarray(b)):
        raise ValueError(f"{type(model).__name__}.{low} must be less than {high}; got {low}={a}, {high}={b}")
