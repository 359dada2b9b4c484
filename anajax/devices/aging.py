"""What time, heat and use do to cells that are pulsed: leak, drift, wear."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from anajax._record import Record, leaf, record

BOLTZMANN_EV = 8.617333262e-5  # eV/K


@record
class Arrhenius(Record):
    """How temperature stretches times: by exp(activation / k (1 / temperature - 1 / reference)).

    Attributes:
      activation: activation energy [eV].
      temperature: of the cells [K].
      reference: temperature at which the times hold [K].
    """

    activation: Array | float = leaf(ge=0)
    temperature: Array | float = leaf(default=300.0, gt=0)
    reference: Array | float = leaf(default=300.0, gt=0)

    @property
    def stretch(self) -> Array:
        """The factor on times, 1 at the reference temperature."""
        return jnp.exp(self.activation / BOLTZMANN_EV * (1 / self.temperature - 1 / self.reference))


@record
class Leak(Record):
    """What time does to a volatile state: decay to the rest level, and diffusion (an Ornstein-Uhlenbeck process).

        x(t) = rest + (x - rest) exp(-t / tau) + diffusion sqrt(tau / 2 (1 - exp(-2 t / tau))) xi

    Attributes:
      lifetime: mean time constant tau of the decay [s], or `None` for none.
      lifetime_d2d: its relative spread from cell to cell.
      diffusion: standard deviation gathered in the first second [per sqrt(s)], or `None`.
      diffusion_d2d: its relative spread from cell to cell.
      thermal: how both speed up with temperature, or `None`.
    """

    lifetime: Array | float | None = leaf(default=None, gt=0)
    lifetime_d2d: Array | float | None = leaf(default=None, ge=0)
    diffusion: Array | float | None = leaf(default=None, ge=0)
    diffusion_d2d: Array | float | None = leaf(default=None, ge=0)
    thermal: Arrhenius | None = leaf(default=None)


@record
class Drift(Record):
    """Power-law drift of the conductance since a cell was last touched, each with its own exponent.

        g(t) = g (max(t, t_0) / t_0) ** -nu,   nu = |nu_mean (1 + nu_d2d xi)| - nu_slope ln(g / g_max)

    A pulse acts on the drifted state, and drift starts anew from there. With `nu_noise` each read meets an exponent of
    its own: read noise, to first order, of g(t) |nu_mean (1 + nu_d2d xi)| nu_noise ln(max(t, t_0) / t_0).

    Source: Oh et al., IEEE Electron Device Lett. 40:1325 (2019).

    Attributes:
      nu: mean drift exponent.
      nu_d2d: its relative spread from cell to cell.
      nu_slope: change of the exponent with the logarithm of the conductance, or `None`.
      nu_noise: relative standard deviation of a cell's exponent from read to read, or `None`.
      t_0: time since the last touch from which drift counts [s].
    """

    nu: Array | float = leaf()
    nu_d2d: Array | float | None = leaf(default=None, ge=0)
    nu_slope: Array | float | None = leaf(default=None)
    nu_noise: Array | float | None = leaf(default=None, ge=0)
    t_0: Array | float = leaf(default=1.0, gt=0)

    def decayed(self, g: Array, u: Array, age: Array | float, score: Array | float) -> Array:
        """Return conductances `g`, at `u = g / g_max`, of cells last touched `age` seconds ago, with their scores."""
        nu = self._exponent(score)
        if self.nu_slope is not None:
            nu = nu - self.nu_slope * jnp.log(jnp.maximum(u, 1e-7))
        return g * jnp.exp(-nu * self._log_age(age))

    def read_noise(self, g: Array, age: Array | float, score: Array | float) -> Array:
        """Return the standard deviation of one read of cells that have drifted to `g`, by that of their exponents."""
        if self.nu_noise is None:
            return jnp.zeros_like(g)
        return g * self.nu_noise * jnp.abs(self._exponent(score)) * self._log_age(age)

    def _exponent(self, score: Array | float) -> Array | float:
        return self.nu if self.nu_d2d is None else jnp.abs(self.nu * (1 + self.nu_d2d * score))

    def _log_age(self, age: Array | float) -> Array:
        """Return the logarithm of the age in units of `t_0`, 0 before."""
        return jnp.log(jnp.maximum(age / self.t_0, 1.0))


@record
class Endurance(Record):
    """Wear: bounds that close on zero as a power of the pulses a cell has had, and cells that fail for good.

        high(N) = high max(N / N_0, 1) ** -high_exponent,   low(N) likewise,   N_0 = cycles
        high(N) = low(N) = stuck   from N_f = failure exp(failure_d2d xi) on

    Both thresholds are stretched by temperature. Wear shows after the call that pulses a cell. A failed cell answers to
    no pulse, reset or programming; drift, write noise and read noise remain. Which cells have failed is a discrete
    event, without a derivative with respect to `failure`.
    Both are the two modes, gradual and sudden, that Lammie et al., MemTorch (2022), have for resistances, here acting
    on the bounds of x, with a threshold of failure for each cell.

    Attributes:
      cycles: pulses after which wear shows, or `None` for no gradual wear.
      high_exponent: of the upper bound.
      low_exponent: of the lower bound.
      failure: median number of pulses after which a cell fails, or `None`.
      failure_d2d: spread of its logarithm from cell to cell.
      stuck: state in which failed cells stay; goes with `failure`.
      thermal: how the thresholds move with temperature, or `None`.
    """

    cycles: Array | float | None = leaf(default=None, gt=0)
    high_exponent: Array | float = leaf(default=0.1, ge=0)
    low_exponent: Array | float = leaf(default=0.1, ge=0)
    failure: Array | float | None = leaf(default=None, gt=0)
    failure_d2d: Array | float | None = leaf(default=None, ge=0)
    stuck: Array | float | None = leaf(default=None)
    thermal: Arrhenius | None = leaf(default=None)

    def check(self) -> None:
        """Check that there is wear of either kind, and that failed cells have a state."""
        if self.cycles is None and self.failure is None:
            raise ValueError("Endurance.cycles or Endurance.failure must be given; got None for both")
        if (self.failure is None) != (self.stuck is None):
            got = f"failure={self.failure!r}, stuck={self.stuck!r}"
            raise ValueError(f"Endurance.failure and Endurance.stuck must be given together; got {got}")

    def worn(self, low: Array, high: Array, pulses: Array | float, score: Array | float) -> tuple[Array, Array]:
        """Return what `pulses` have left of the bounds `low` and `high` of cells with these scores of failure."""
        aged = pulses if self.thermal is None else pulses / self.thermal.stretch
        if self.cycles is not None:
            used = jnp.maximum(aged / self.cycles, 1.0)
            low, high = low * used**-self.low_exponent, high * used**-self.high_exponent
        if self.failure is None or self.stuck is None:
            return low, high
        spread = 0.0 if self.failure_d2d is None else self.failure_d2d
        failed = aged >= self.failure * jnp.exp(spread * score)
        return jnp.where(failed, self.stuck, low), jnp.where(failed, self.stuck, high)
