"""Memristor models against their formulas, written out again."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from anajax.devices.memristor import (
    VTEAM,
    Biolek,
    Joglekar,
    LinearIonDrift,
    Messaris,
    Prodromakis,
    StanfordPKU,
    Yakopcic,
    messaris_2021,
)

close = np.testing.assert_allclose


def joglekar_window(window):
    x = jnp.array([0.0, 0.25, 0.5, 1.0])
    close(window(x, 1.0), [0, 1 - 0.5 ** (2 * 3), 1, 0], atol=1e-6)


def test_joglekar_window():
    joglekar_window(Joglekar(p=3.0))
    with pytest.raises(AssertionError):  # a misplaced bracket in a public code: 4 at x = 0 and p = 1
        joglekar_window(lambda x, i: (1 - (2 * x - 1)) ** (2 * 3))


def biolek_window(window):
    x = jnp.array([0.0, 0.3, 1.0])
    close(window(x, 1e-3), [1, 1 - 0.3**4, 0], atol=1e-6)  # towards x = 1
    close(window(x, -1e-3), [0, 1 - 0.7**4, 1], atol=1e-6)
    close(window(x, 0.0), [0, 1 - 0.7**4, 1], atol=1e-6)


def test_biolek_window():
    biolek_window(Biolek(p=2.0))
    with pytest.raises(AssertionError):
        biolek_window(lambda x, i: Biolek(p=2.0)(x, -i))


def prodromakis_window(window):
    x = jnp.array([0.0, 0.5, 0.8, 1.0])
    close(window(x, 1.0), [0, 1.5 * (1 - 0.75**2), 1.5 * (1 - (0.09 + 0.75) ** 2), 0], atol=1e-6)


def test_prodromakis_window():
    prodromakis_window(Prodromakis(p=2.0, j=1.5))
    with pytest.raises(AssertionError):
        prodromakis_window(lambda x, i: 1.5 * (1 - (x - 0.5) ** 2 + 0.75**2))


def test_windows_have_finite_derivatives_at_the_rails():
    for window in (Joglekar(), Biolek(), Prodromakis()):
        for x in (0.0, 0.5, 1.0):
            slopes = jax.grad(lambda w, x: w(x, 1.0), argnums=(0, 1))(window, x)
            assert all(np.isfinite(s) for s in jax.tree.leaves(slopes)), (window, x)


def test_linear_ion_drift_formula():
    model = LinearIonDrift()
    close(model.current(0.25, 0.8), 0.8 / (100 * 0.25 + 16e3 * 0.75), rtol=1e-6)
    close(model.rate(0.25, 0.8), 1e-14 * 100 / 1e-16 * 0.8 / 12025, rtol=1e-5)
    hard = model.replace(v_positive=0.55, v_negative=-0.55, v_width=0.0)
    v = jnp.array([-0.56, -0.54, 0.0, 0.54, 0.56])
    close(hard.rate(0.25, v), np.array([1, 0, 0, 0, 1]) * model.rate(0.25, v), rtol=1e-6)
    soft = hard.replace(v_width=0.01).rate(0.25, jnp.array([0.55, 0.555, 0.56]))
    close(soft / model.rate(0.25, jnp.array([0.55, 0.555, 0.56])), [0, 0.5, 1], atol=1e-4)


def vteam_rates(model):
    v = jnp.array([-1.0, -0.2, -0.1, 0.0, 0.01, 0.02, 0.5])
    close(model.rate(1e-9, v), [-640, 0, 0, 0, 0, 0, 0.012], rtol=1e-5, atol=1e-9)


def test_vteam_formula():
    model = VTEAM()
    vteam_rates(model)
    with pytest.raises(AssertionError):
        vteam_rates(model.replace(v_on=-0.21))
    x = jnp.array([0.0, 1.5e-9, 3e-9])
    close(1 / model.current(x, 1.0), [50, 525, 1000], rtol=1e-6)
    exponential = model.replace(resistance="exponential")
    close(1 / exponential.current(x, 1.0), [50, math.sqrt(50 * 1000), 1000], rtol=1e-5)


def test_vteam_has_finite_derivatives_below_its_thresholds():
    for v in (-0.2, -0.1, 0.0, 0.01, 0.02):
        slopes = jax.grad(lambda m, v=v: m.rate(1e-9, v))(VTEAM())
        assert all(np.isfinite(s) for s in jax.tree.leaves(slopes)), v


def test_yakopcic_formula():
    model, e = Yakopcic(), math.exp
    close(model.current(0.3, jnp.array([0.5, -0.5])), 0.17 * 0.3 * np.sinh([0.025, -0.025]), rtol=1e-5)
    close(model.rate(0.2, jnp.array([0.15, -0.14])), [0, 0])
    up, down = 4000 * (e(0.5) - e(0.16)), -4000 * (e(0.5) - e(0.15))
    close(model.rate(jnp.array([0.2, 0.65]), 0.5), [up, up * e(-0.35) * 0.35 / 0.7], rtol=1e-5)
    close(model.rate(jnp.array([0.6, 0.2]), -0.5), [down, down * e(5 * (0.2 - 0.5)) * 0.2 / 0.5], rtol=1e-5)
    close(model.replace(eta=-1).rate(0.6, 0.5), -up, rtol=1e-5)


def stanford_numbers(model):
    close(model.current(0.2e-9, 0.1), 184.563e-6, rtol=1e-5)
    close(model.current(1e-9, 1.0), 499.832e-6, rtol=1e-5)
    close(model.temperature(1e-9, 1.0), 299.05, atol=0.005)


def test_stanford_formula():
    model = StanfordPKU()
    stanford_numbers(model)
    with pytest.raises(AssertionError):
        stanford_numbers(model.replace(g_0=0.26e-9))
    g, v = 1e-9, 1.3
    T = 298 + 1.3 * 1e-3 * math.exp(-4) * math.sinh(5.2) * 2.1e3
    gamma, kT = 16 - 0.8, 8.617333262e-5 * T
    wanted = -10 * math.exp(-0.6 / kT) * math.sinh(gamma * 0.25e-9 * v / (12e-9 * kT))
    close(model.rate(g, jnp.array([v, -v])), [wanted, -wanted], rtol=2e-4)  # exponents of 20 in float32
    assert float(model.rate(g, 1.1)) == 0.0  # 15.2 * 1.1 / 12 nm = 1.393e9 V/m, below F_min
    # a product of exp(-E_a / kT) and sinh would be 0 * inf here
    assert np.isfinite(model.rate(g, jnp.array([-300.0, -30.0, 30.0, 300.0]))).all()


def test_stanford_field_enhancement_does_not_turn_negative():
    """16.5 - 1.25 * 2.7**3 = -8.1: the gap rests there, and is not driven the other way."""
    model = StanfordPKU(gamma_0=16.5, beta=1.25, gap_max=3e-9, F_min=0.0)
    assert float(model.rate(2e-9, 2.0)) < 0 < float(model.rate(2e-9, -2.0))
    assert float(model.rate(2.7e-9, 2.0)) == float(model.rate(2.7e-9, -2.0)) == 0.0


def test_stanford_switch_is_narrow():
    """The default width of the switch changes no rate above its end, and none below F_min."""
    soft, hard = StanfordPKU(), StanfordPKU(F_width=0.0)
    field = np.array([1.0, 1.39, 1.4101, 1.5, 2.0]) * 1e9
    v = jnp.asarray(field * 12e-9 / 15.2)
    close(soft.rate(1e-9, v), hard.rate(1e-9, v), rtol=1e-5)


def test_messaris_formula():
    model = Messaris()
    s = 743.47 * math.expm1(1 / 6.51)
    close(model.rate(10e3, 1.0), s * (16719 - 10e3) ** 2, rtol=1e-5)
    s, r = -68012.28374 * math.expm1(0.5 / 0.31645), 29304.82557 - 0.5 * 23692.77225
    close(model.rate(jnp.array([18e3, 16e3]), -0.5), [s * (r - 18e3) ** 2, 0], rtol=1e-4)
    close(model.current(10e3, 0.5), 0.24 / 10e3 * math.sinh(1.5), rtol=1e-5)
    other = messaris_2021()
    assert float(other.rate(2500.0, 1.0)) < 0 < float(other.rate(2000.0, -1.0))
