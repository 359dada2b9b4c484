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

    A pulse acts on the drifted state, and drift starts anew from there.

    Source: Oh et al., IEEE Electron Device Lett. 40:1325 (2019).

    Attributes:
      nu: mean drift exponent.
      nu_d2d: its relative spread from cell to cell.
      nu_slope: change of the exponent with the logarithm of the conductance, or `None`.
      t_0: time since the last touch from which drift counts [s].
    """

    nu: Array | float = leaf()
    nu_d2d: Array | float | None = leaf(default=None, ge=0)
    nu_slope: Array | float | None = leaf(default=None)
    t_0: Array | float = leaf(default=1.0, gt=0)

    def decayed(self, g: Array, u: Array, age: Array | float, score: Array | float) -> Array:
        """Return conductances `g`, at `u = g / g_max`, of cells last touched `age` seconds ago, with their scores."""
        nu = self.nu if self.nu_d2d is None else jnp.abs(self.nu * (1 + self.nu_d2d * score))
        if self.nu_slope is not None:
            nu = nu - self.nu_slope * jnp.log(jnp.maximum(u, 1e-7))
        return g * jnp.exp(-nu * jnp.log(jnp.maximum(age / self.t_0, 1.0)))


@record
class Endurance(Record):
    """Wear: bounds that close on zero as a power of the pulses a cell has had.

        high(N) = high max(N / N_0, 1) ** -high_exponent,   low(N) likewise,
        N_0 = cycles, stretched by temperature

    Wear shows after the call that pulses a cell. It is a power law beyond a threshold, as the gradual law that Lammie
    et al., MemTorch (2022) have for resistances; here it acts on the bounds of x.

    Attributes:
      cycles: pulses after which wear shows.
      high_exponent: of the upper bound.
      low_exponent: of the lower bound.
      thermal: how the threshold moves with temperature, or `None`.
    """

    cycles: Array | float = leaf(gt=0)
    high_exponent: Array | float = leaf(default=0.1, ge=0)
    low_exponent: Array | float = leaf(default=0.1, ge=0)
    thermal: Arrhenius | None = leaf(default=None)
