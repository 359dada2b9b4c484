"""Deliberately wrong twins: each check of physics must pass the right model and reject the falsified ones."""

import functools

import checks
import jax
import jax.numpy as jnp
import pytest

from anajax import Hardware, presets
from anajax._random import read_normal
from anajax._record import record
from anajax.arrays import DAC, SAR, Analytic, BitSerial, Differential, IRDrop, Slices, WeightNoise, quantize
from anajax.devices import PCM, Polynomial
from anajax.devices import presets as devices


def as_kind(cls, device):
    return cls(**{name: value for name, value in vars(device).items() if value is not None})


@record
class Growing(PCM):
    def conductance(self, cells, time=0.0):
        return self._as_programmed(cells) ** 2 / super().conductance(cells, time)


@record
class LateStart(PCM):
    """Drift as (time / t_0) ** -nu: time zero in the wrong place."""

    def conductance(self, cells, time=0.0):
        factor = jnp.maximum(time / self.t_0, 1.0) ** -self.drift_exponent(cells)
        return self._as_programmed(cells) * factor


@record
class Unclipped(PCM):
    def _as_programmed(self, cells):
        return cells.target + self.programming_noise(cells.target) * cells.score("program")


@record
class SignedExponent(PCM):
    def drift_exponent(self, cells):
        u = cells.target / self.g_max
        return self.nu_scale * (self.nu_mean(u) + self.nu_std(u) * cells.score("drift"))


@record
class FreshExponent(PCM):
    """An exponent drawn anew for each read, as if drift were read noise."""

    def conductance(self, cells, time=0.0):
        moved = jnp.roll(jnp.asarray(cells.score("drift")), jnp.asarray(time, int), axis=-1)
        return super().conductance(cells.replace(scores={**cells.scores, "drift": moved}), time)


@record
class SteadyNoise(PCM):
    """Read noise that does not grow with time."""

    def read_noise(self, cells, time=0.0):
        return super().read_noise(cells, 0.0)


@record
class FlatDrop(IRDrop):
    """Voltage drop without the weighting of far and near cells."""

    def __call__(self, weights, x, y):
        n = weights.shape[0]
        a = n * self.resistance * self.conductance * (jnp.abs(x) @ jnp.abs(weights))
        c = self.coefficients
        return y - self.scale * a * (c[0] + a * (c[1] + a * c[2])) * y


@record
class ReversedDrop(IRDrop):
    """Voltage drop weighted from the near end."""

    def __call__(self, weights, x, y):
        n = weights.shape[0]
        a = n * self.resistance * self.conductance * (jnp.abs(x) @ jnp.abs(weights))
        c = self.coefficients
        near = 1 - ((n - 1 - jnp.arange(n)) / n) ** 2
        return y - self.scale * a * (c[0] + a * (c[1] + a * c[2])) * (x @ (near[:, None] * weights))


@record
class OneDraw(SAR):
    """Converters that all share the capacitors of the first."""

    def __call__(self, y, scores=None):
        return super().__call__(y, {n: jnp.broadcast_to(s[..., :1], s.shape) for n, s in scores.items()})


@record
class EvenCapacitors(SAR):
    """Every capacitor of the same relative spread, whatever its number of units."""

    def __call__(self, y, scores=None):
        units = 2.0 ** jnp.arange(self.bits - 2, -1, -1)
        c = scores["adc_capacitors"][: self.bits - 1] * jnp.sqrt(units)[:, None]
        return super().__call__(y, {**scores, "adc_capacitors": c})


@record
class LinesReversed(Slices):
    """The most significant slice first."""

    def split(self, weights):
        held = super().split(weights)
        return held.reshape(*held.shape[:-1], self.count, -1)[..., ::-1, :].reshape(held.shape)


@record
class Truncated(Slices):
    """Weights rounded towards zero."""

    def split(self, weights):
        top = 2 ** (self.bits * self.count) - 1
        return super().split(jnp.trunc(weights * top - 0.2 * jnp.sign(weights)) / top)


@record
class LowestDigitUnsigned(Slices):
    def split(self, weights):
        held = super().split(weights)
        cols = weights.shape[-1]
        return held.at[..., :cols].set(jnp.abs(held[..., :cols]))


@record
class TwosComplement(BitSerial):
    """Bits of negative codes inverted, without the weight of the sign bit that they need."""

    def pulses(self, x):
        p = super().pulses(x)
        return jnp.where(x[..., None, :] < 0, self.bound - jnp.abs(p), p)


@record
class PulsesReversed(BitSerial):
    def pulses(self, x):
        return super().pulses(x)[..., ::-1, :]


@record
class Unweighted(BitSerial):
    def total(self, y):
        return jnp.mean(y.reshape(-1, self.count, y.shape[-1]), axis=1)


@record
class NoMeans(Analytic):
    def __call__(self, hardware, effective, mean, std, input_range=None):
        return super().__call__(hardware, effective, 0.0, std, input_range)


@record
class NoOutputNoise(Analytic):
    def __call__(self, hardware, *args):
        return super().__call__(hardware.replace(output_noise=None), *args)


@record
class AverageOutput(Analytic):
    """The range of the average output in the place of the widest."""

    def __call__(self, hardware, effective, mean, std, input_range=None):
        w = jnp.broadcast_to(jnp.sqrt(jnp.mean(effective.weights**2, -1, keepdims=True)), effective.weights.shape)
        return super().__call__(hardware, effective.replace(weights=w), mean, std, input_range)


def sar(cls=SAR, **changes):
    return lambda: cls(**{"bits": 5, "bound": 3.0, "mismatch": 0.02} | changes)


def pcm(cls=None, **changes):
    device = devices.pcm().replace(**changes)
    return device if cls is None else as_kind(cls, device)


def state_independent(cls=PCM):
    return as_kind(cls, devices.state_independent())


def exponents(device, key):
    checks.folded_normal_exponents(device, 12.5, 0.1, 0.05, key)


def moments(device, key):
    checks.monte_carlo(device, key, checks.PCM_MONTE_CARLO[10:13])


def drop(wires, key):
    checks.ir_drop_all_ones(wires, rtol=1e-4)


def total_error(hardware, key):
    hardware = hardware.replace(mapping=Differential(scale_by="none"), compensation=None)
    assert 0.135 < checks.mvm_error(hardware, key) < 0.143


def without_key(check):
    return lambda subject, key: check(subject)


@functools.partial(jax.jit, static_argnums=1)
def draw(seed, n):
    return read_normal(jax.random.key(seed), (n,), jnp.float32)


def uniform(seed, n):
    return 12**0.5 * jax.random.uniform(jax.random.key(seed), (n,), minval=-0.5, maxval=0.5)


def rounded(steps):
    return lambda x: quantize(x, 2 / steps, 1.0)


# check -> (right model, {what is wrong: falsified model})
STANDARD = presets.standard_aimc
TWINS = {
    "programming noise": (
        without_key(checks.pcm_programming_noise),
        pcm,
        {
            "sigma x 1.1": lambda: pcm(program_scale=1.1),
            "sigma x 1.001": lambda: pcm(program_scale=1.001),
            "fit of another order": lambda: pcm(
                program_curve=Polynomial(coefficients=(0.26348e-6, 1.9650e-6, 1.1731e-6))
            ),
        },
    ),
    "drift factor": (
        without_key(checks.pcm_drift_factor),
        pcm,
        {
            "conductance grows": lambda: pcm(Growing),
            "time zero at t_0": lambda: pcm(LateStart),
            "nu x 1.01": lambda: pcm(nu_scale=1.01),
            "t_0 of 38.6 s": lambda: pcm(t_0=38.6),
        },
    ),
    "zero state": (checks.pcm_zero_state, pcm, {"not clipped": lambda: pcm(Unclipped)}),
    "Monte Carlo": (
        moments,
        pcm,
        {
            "programming noise x 1.1": lambda: pcm(program_scale=1.1),
            "read noise x 1.1": lambda: pcm(read_scale=1.1),
            "steady read noise": lambda: pcm(SteadyNoise),
            "no drift": lambda: pcm(nu_scale=0.0),
            "t_read of 250 us": lambda: pcm(t_read=250e-6),
        },
    ),
    "drift exponents": (
        exponents,
        state_independent,
        {
            "without absolute value": lambda: state_independent(SignedExponent),
            "spread x 1.1": lambda: devices.state_independent().replace(nu_std=Polynomial(coefficients=(0.055,))),
        },
    ),
    "own exponent": (
        checks.each_cell_drifts_with_its_own_exponent,
        state_independent,
        {"redrawn at each read": lambda: state_independent(FreshExponent)},
    ),
    "IR drop": (
        drop,
        IRDrop,
        {
            "all cells at the far end": FlatDrop,
            "ends exchanged": ReversedDrop,
            "scale x 1.01": lambda: IRDrop(scale=1.01),
            "sign of the second order": lambda: IRDrop(coefficients=(0.5, 0.2, 0.05)),
        },
    ),
    "MVM error": (
        total_error,
        STANDARD,
        {
            "programming noise x 1.1": lambda: STANDARD(pcm(program_scale=1.1)),
            "no 1/f noise": lambda: STANDARD(pcm(read_scale=0.0)),
            "no programming noise": lambda: STANDARD(pcm(program_scale=0.0)),
        },
    ),
    "normals": (
        lambda f, key: checks.standard_normals(f),
        lambda: draw,
        {
            "sigma x 1.01": lambda: lambda seed, n: 1.01 * draw(seed, n),
            "uniform": lambda: uniform,
            "one sign too often": lambda: lambda seed, n: draw(seed, n) + 0.01,
            "repeats after 256": lambda: lambda seed, n: jnp.tile(draw(seed, 256), n // 256),
            "ignores the key": lambda: lambda seed, n: draw(0, n),
        },
    ),
    "capacitors": (
        checks.capacitor_mismatch,
        sar(),
        {
            "mismatch x 1.1": sar(mismatch=0.022),
            "the same relative spread": sar(EvenCapacitors),
            "offsets of comparators on top": sar(offset=0.004),
        },
    ),
    "own capacitors": (
        checks.each_converter_has_its_own_capacitors,
        sar(columns_per_adc=8),
        {
            "one draw for all": sar(OneDraw, columns_per_adc=8),
            "no mismatch": sar(mismatch=None, columns_per_adc=8),
        },
    ),
    "slices": (
        without_key(checks.sliced_codes),
        lambda: Slices(bits=2, count=3),
        {
            "most significant first": lambda: LinesReversed(bits=2, count=3),
            "rounds towards zero": lambda: Truncated(bits=2, count=3),
            "a slice without sign": lambda: LowestDigitUnsigned(bits=2, count=3),
        },
    ),
    "bit-serial inputs": (
        without_key(checks.streamed_codes),
        lambda: BitSerial(bits=6),
        {
            "two's complement without its sign bit": lambda: TwosComplement(bits=6),
            "most significant first": lambda: PulsesReversed(bits=6),
            "pulses of equal weight": lambda: Unweighted(bits=6),
        },
    ),
    "analytic range": (
        checks.analytic_range,
        lambda: Analytic(sigmas=3.0),
        {
            "sigma x 1.1": lambda: Analytic(sigmas=3.3),
            "inputs without means": lambda: NoMeans(sigmas=3.0),
            "no output noise": lambda: NoOutputNoise(sigmas=3.0),
            "the average output": lambda: AverageOutput(sigmas=3.0),
        },
    ),
    "seven bits": (
        without_key(checks.seven_bits),
        lambda: lambda x: DAC(bits=7)(None, x),
        {
            "128 steps": lambda: rounded(128),
            "127 steps": lambda: rounded(127),
            "no clip": lambda: lambda x: jnp.round(x * 63) / 63,
            "rounds down": lambda: lambda x: jnp.clip(jnp.floor(x * 63) / 63, -1, 1),
        },
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_right_physics_passes(name, key):
    check, right, _ = TWINS[name]
    check(right(), key)


@pytest.mark.parametrize(("name", "wrong"), [(name, wrong) for name, twin in TWINS.items() for wrong in twin[2]])
def test_wrong_physics_is_rejected(name, wrong, key):
    check, _, twins = TWINS[name]
    with pytest.raises(AssertionError):
        check(twins[wrong](), key)


@pytest.mark.parametrize(
    ("kind", "sigma", "right"),
    [
        ("pcm", 0.05, True),
        ("constant", 0.05, True),
        ("pcm", 0.055, False),
        ("constant", 0.055, False),
        ("pcm", 0.045, False),
    ],
)
def test_weight_noise_of_the_wrong_size_is_rejected(kind, sigma, right, key):
    hardware = Hardware(mapping=Differential(scale_by="none"), weight_noise=WeightNoise(sigma=sigma, kind=kind))
    if right:
        checks.weight_noise_moments(hardware, key)
    else:
        with pytest.raises(AssertionError, match="standard errors"):
            checks.weight_noise_moments(hardware, key)
