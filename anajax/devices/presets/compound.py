"""Published compound cells: several devices that act as one."""

from __future__ import annotations

from jax import Array

from anajax.devices.compound import OneSidedPair, ReferencePair, Significance
from anajax.devices.presets.pulsed import capacitor_3t1c, pcm_exp, pcm_set


def pcm_pair() -> OneSidedPair:
    """Return a pair of phase-change memories that are only ever pulsed up, as step responses.

    Source: AIHWKit's PCM unit cell, after Nandakumar et al., Front. Neurosci. 14:406 (2020).
    """
    return OneSidedPair(device=pcm_exp())


def pcm_set_pair(memory: bool = True) -> OneSidedPair:
    """Return a pair of phase-change memories by statistics of their partial-SET pulses.

    Source: Burr et al., IEDM 2014, for the cell; Nandakumar et al., J. Appl. Phys. 124:152135 (2018), for the pulses.

    Args:
      memory: whether the pulses since the last RESET are remembered.
    """
    return OneSidedPair(device=pcm_set(memory))


def pcm_3t1c(
    factor: Array | float = 3.0,
    mismatch: Array | float = 0.1,
    lifetime: Array | float | None = None,
    invert: bool = True,
) -> Significance:
    """Return the cell of 2 phase-change memories and a capacitor with 3 transistors: F (G+ - G-) +- (g - g_shared).

    The capacitor takes the pulses; `transfer` moves what it holds to the phase-change pair, usually every 8,000
    examples, and inverts its polarity, so that the mismatch of its charging transistors cancels.
    Source: Ambrogio et al., Nature 558:60 (2018). The factor, mismatch and lifetime are usual assumptions: the paper's
    own values were not at hand. Transfers are closed loop and exact; for an error give the phase-change memory a
    `program_curve`.

    Args:
      factor: significance F of the phase-change pair.
      mismatch: spread of the asymmetry between pull-up and pull-down, from cell to cell.
      lifetime: time constant of the capacitor's leak [s], or `None`.
      invert: whether each transfer inverts the polarity.
    """
    shared = capacitor_3t1c(lifetime)  # a column of mid-range cells, alike and at rest
    fast = shared.replace(up_down_d2d=mismatch)
    return Significance(
        high=pcm_set_pair(), low=ReferencePair(device=fast, reference=shared), factor=factor, invert=invert
    )
