"""How long an update of in-situ training takes: pulses, readings, and what is done in digital."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

_RULES = ("analog_sgd", "tiki_taka_v2", "chopped_tiki_taka", "agad", "mixed_precision")


def update_time(
    rule: str,
    size: int = 512,
    *,
    every: Array | float = 2.0,
    pulses: Array | float = 5.0,
    batch: Array | float = 100.0,
    t_mvm: Array | float = 40e-9,
    t_pulse: Array | float = 5e-9,
    flops: Array | float = 175e9,
) -> Array:
    """Return the time that the update of one example takes on an array [s], its two products left out.

    With N the size, n examples from reading to reading, l slots of a train, B examples from pulses to pulses:

        analog_sgd                        2 N / flops                  + l t_pulse
        tiki_taka_v2, chopped_tiki_taka   (2 N + 2 N / n) / flops      + (l + 1 / n) t_pulse + t_mvm / n
        agad                              (2 N + 6 N / n) / flops      + (l + 1 / n) t_pulse + t_mvm / n
        mixed_precision                   (2 N^2 + N) / flops          + N / B t_pulse

    Source: Rasch et al., Nat. Commun. 15:7133 (2024), with its N = 512, n = 2, l = 5, B = 100 as defaults.

    Args:
      rule: name of an optimiser of `anajax.optim`.
      size: rows of the array, and columns.
      every: examples from one reading of a row to the next.
      pulses: slots of a train, on average.
      batch: examples from pulses to pulses of `mixed_precision`.
      t_mvm: time of a reading [s].
      t_pulse: time of a slot [s].
      flops: digital operations per second at the array's disposal.

    Example:
      >>> from anajax import cost
      >>> round(float(cost.update_time("agad")) * 1e9, 1)  # ns
      62.1
    """
    if rule not in _RULES:
        raise ValueError(f"rule must be one of {', '.join(_RULES)}; got {rule!r}")
    n, slots = jnp.asarray(every), jnp.asarray(pulses)
    if rule == "mixed_precision":
        return jnp.asarray((2 * size**2 + size) / flops + size / batch * t_pulse)
    if rule == "analog_sgd":
        return 2 * size / flops + slots * t_pulse
    digital = 2 * size + (6 if rule == "agad" else 2) * size / n
    return digital / flops + (slots + 1 / n) * t_pulse + t_mvm / n
