import dataclasses
import inspect
import itertools

import jax
import jax.numpy as jnp
import pytest

from anajax import devices
from anajax._record import record, static
from anajax.devices import presets
from anajax.testing import check_device, device_checks

# every preset, with arguments that differ from the defaults where it takes any
DEVICES = {
    "ideal": lambda: presets.ideal(g_max=30e-6, g_min=2e-6),
    "pcm": presets.pcm,
    "pcm_with_drift_table": lambda: presets.pcm_with_drift_table(
        g=[0.0, 10e-6, 25e-6], nu_mean=[0.08, 0.05, 0.03], nu_std=[0.03, 0.02, 0.01]
    ),
    "hermes_one_device": presets.hermes_one_device,
    "hermes_two_devices": presets.hermes_two_devices,
    "state_independent": presets.state_independent,
    "rram_wan": presets.rram_wan,
    "rram_cmo": presets.rram_cmo,
    "sonos": presets.sonos,
    "pcm_joshi": presets.pcm_joshi,
    "rram_milo": presets.rram_milo,
    "rram_lognormal": lambda: presets.rram_lognormal(spread_on=0.05, spread_off=0.5),
    "rram_es": presets.rram_es,
    "rram_sb": presets.rram_sb,
    "rram_array_om": presets.rram_array_om,
    "rram_array_hfo2": presets.rram_array_hfo2,
    "capacitor": presets.capacitor,
    "ecram": presets.ecram,
    "ecram_mo": presets.ecram_mo,
    "idealized": presets.idealized,
    "gokmen_vlasov": presets.gokmen_vlasov,
    "pcm_exp": presets.pcm_exp,
    "pcm_set": presets.pcm_set,
    "capacitor_3t1c": lambda: presets.capacitor_3t1c(lifetime=1e5),  # its charge outlives the times of the battery
    "ag_a_si": presets.ag_a_si,
    "fefet": presets.fefet,
    "taox_tio2": presets.taox_tio2,
    "pcmo": presets.pcmo,
    "alox_hfo2": presets.alox_hfo2,
    "gst_pcm": presets.gst_pcm,
    "epiram": presets.epiram,
    "pcm_pair": presets.pcm_pair,
    "pcm_set_pair": lambda: presets.pcm_set_pair(memory=False),
    "pcm_3t1c": presets.pcm_3t1c,
}
# one of each law; the others take minutes together
FAST = {"ideal", "pcm", "hermes_two_devices", "rram_wan", "rram_cmo", "rram_lognormal"} | {
    *("rram_es", "ecram", "rram_array_om", "pcm_set", "fefet")
}


def test_every_preset_is_in_the_table():
    functions = {n for n, f in vars(presets).items() if inspect.isfunction(f) and not n.startswith("_")}
    assert functions == set(DEVICES)


def cases():
    for name, check in itertools.product(DEVICES, device_checks):
        yield pytest.param(name, check, marks=[] if name in FAST else [pytest.mark.slow])


@pytest.mark.parametrize(("name", "check"), list(cases()))
def test_contract(name, check, key):
    device_checks[check](DEVICES[name](), key)


@pytest.mark.parametrize("name", DEVICES)
def test_gradients_at_time_zero_are_finite(name, key):
    device = DEVICES[name]()
    cells = device.program(key, device.fabricate(key, (7,)), device.g_min + device.window * jnp.linspace(0.0, 1.0, 7))

    def read(device, target, time):
        now = cells.replace(target=target)
        return (device.conductance(now, time) + device.read_noise(now, time)).sum()

    slopes = jax.jit(jax.grad(read, (0, 1, 2)))(device, cells.target, 0.0)
    for path, slope in jax.tree_util.tree_leaves_with_path(slopes):
        assert jnp.isfinite(slope).all(), jax.tree_util.keystr(path)


@record
class Broken(devices.PCM):
    """A device that forgets what its contract asks for, in the way that `breaks` says."""

    breaks: str = static()

    def conductance(self, cells, time=0.0):
        g = super().conductance(cells, time)
        if self.breaks == "mean_cell":
            return g * (1.1 if "drift" in cells.scores else 1.0)
        if self.breaks == "physical":
            return g - 1e-6
        if self.breaks in ("jit", "vmap"):  # knows whether it is being transformed
            return g * (1.1 if isinstance(g, jax.core.Tracer) else 1.0)
        if self.breaks == "gradients":
            return g * (1 + jax.lax.stop_gradient(self.t_0) / 100)
        return g

    def fabricate(self, key, shape):
        cells = super().fabricate(key, shape)
        if self.breaks == "same_key" and key is not None:
            draws = jnp.asarray(next(COUNT), float)
            return cells.replace(scores={name: x + draws for name, x in cells.scores.items()})
        return cells


COUNT = itertools.count()


def broken(breaks):
    pcm = presets.pcm()
    return Broken(**{f.name: getattr(pcm, f.name) for f in dataclasses.fields(pcm)}, breaks=breaks)


@pytest.mark.parametrize("breaks", ["mean_cell", "same_key", "physical", "gradients", "jit", "vmap"])
def test_contract_rejects_broken_devices(breaks, key):
    device = broken(breaks)
    with pytest.raises(AssertionError):
        device_checks[breaks](device, key)


def test_check_device_runs_the_battery(key):
    check_device(presets.ideal(), key)
    with pytest.raises(AssertionError, match="finite and >= 0"):
        check_device(broken("physical"), key)


def test_missing_method_names_the_devices_that_have_it():
    with pytest.raises(NotImplementedError, match=r"PCM has no pulse\(\); (devices that have it: |no device)"):
        presets.pcm().pulse(None, presets.pcm().fabricate(None, (2,)), jnp.ones(2))
    bare = devices.Device(g_max=1e-6)
    cells = bare.fabricate(None, (2,))
    for method in ("conductance", "read_noise"):
        with pytest.raises(NotImplementedError) as error:
            getattr(bare, method)(cells)
        assert all(name in str(error.value) for name in ("CMORRAM", "Ideal", "PCM", "Relaxing"))


def test_unprogrammed_cells_say_so():
    device = presets.pcm()
    with pytest.raises(ValueError, match=r"never programmed; call device.program"):
        device.conductance(device.fabricate(None, (3,)))


@pytest.mark.parametrize(
    ("make", "field", "value", "allowed"),
    [
        (lambda: presets.pcm(g_max=-25e-6), "g_max", "-2.5e-05", "greater than 0"),
        (lambda: presets.pcm().replace(t_0=0.0), "PCM.t_0", "got 0", "greater than 0"),
        (lambda: presets.pcm().replace(g_min=-1e-6), "PCM.g_min", "-1e-06", "at least 0"),
        (lambda: presets.pcm().replace(g_min=25e-6), "PCM.g_min", "g_min=", "less than g_max"),
        (lambda: presets.ideal(g_max=1e-6, g_min=2e-6), "Ideal.g_min", "g_min=", "less than g_max"),
        (lambda: presets.pcm().replace(nu_scale=float("nan")), "PCM.nu_scale", "nan", "at least 0"),
        (lambda: presets.rram_cmo(acceptance=0.1), "acceptance", "0.1", "0.002, 0.02"),
        (lambda: presets.rram_wan(g_max=0.0), "g_max", "got 0", "greater than 0"),
        (
            lambda: presets.pcm_with_drift_table([0.0, 50e-6], [0.1, 0.1], [0.0, 0.0]),
            "Table.u",
            "got 2",
            "at most 1",
        ),
        (
            lambda: presets.pcm_with_drift_table([12.5e-6, 0.0], [0.1, 0.1], [0.0, 0.0]),
            "Table.u",
            "0.5",
            "ascend",
        ),
        (
            lambda: presets.pcm_with_drift_table([0.0, 1e-6], [0.1], [0.0, 0.0]),
            "Table.values",
            r"(1,)",
            "shape of Table.u",
        ),
        (
            lambda: presets.rram_wan().replace(times=(1.0, 2.0)),
            "Relaxing.spread",
            "got 3",
            "each of the 2 times",
        ),
    ],
)
def test_impossible_settings_are_refused(make, field, value, allowed):
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is what is tested)
        make()
    for part in (field, value, allowed):
        assert part in str(error.value)
