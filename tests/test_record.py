import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anajax
from anajax import _check
from anajax._record import Record, get, leaf, map_fields, record, replaced, static


@record
class Wheel(Record):
    radius: jax.Array | float = leaf(0.5, gt=0)
    grip: jax.Array | float | None = leaf(None, ge=0, le=1)


@record
class Car(Record):
    wheel: Wheel = leaf()
    mass: jax.Array | float = leaf(ge=0)
    spare: Wheel | None = leaf(None)
    loads: tuple[Wheel, ...] | None = leaf(None)
    marks: dict[str, jax.Array] = leaf(dataclasses.MISSING)
    kind: str = static("small", choices=("small", "large"))
    seats: int = static(4)


def car(**changes):
    return Car(**{"wheel": Wheel(), "mass": 900.0, "marks": {}, **changes})


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        car().mass = 1.0


def test_records_are_keyword_only():
    with pytest.raises(TypeError, match=r"Wheel takes its fields by name: .*; got 0.5 without one"):
        Wheel(0.5)


def test_unknown_fields_are_named():
    with pytest.raises(TypeError, match="diameter"):
        Wheel(diameter=1.0)
    with pytest.raises(TypeError, match="Wheel has no field 'diameter'; it has grip, radius"):
        Wheel().replace(diameter=1.0)
    with pytest.raises(TypeError, match="Wheel has no field 'diameter'"):
        car().replace(**{"wheel.diameter": 1.0})
    with pytest.raises(TypeError, match=r"Car.spare is None, which has no field 'grip'"):
        car().replace(**{"spare.grip": 1.0})


@pytest.mark.parametrize(
    "value", [3, 3.0, True + 2, np.int32(3), np.float32(3), np.array(3), jnp.asarray(3), jnp.asarray(3.0)]
)
def test_numbers_become_float_arrays(value):
    mass = car(mass=value).mass
    assert isinstance(mass, jax.Array)
    assert mass.dtype == jnp.float32
    assert not mass.weak_type
    assert float(mass) == 3.0


def test_lists_become_float_arrays():
    np.testing.assert_array_equal(car(mass=[1, 2]).mass, np.float32([1, 2]))
    assert car(mass=np.arange(3)).mass.dtype == jnp.float32


def test_float_arrays_keep_their_precision(x64):
    assert car(mass=np.asarray(3, np.float32)).mass.dtype == jnp.float32
    assert car(mass=3).mass.dtype == jnp.float64
    assert car(mass=jnp.asarray(3.0, jnp.bfloat16)).mass.dtype == jnp.bfloat16


@pytest.mark.parametrize("value", ["heavy", 1j, jnp.asarray(1j), object(), np.array(["a"])])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match=r"Car.mass must be a real number or an array of them; got"):
        car(mass=value)


def test_static_fields_refuse_arrays_and_what_is_not_among_the_choices():
    for value in (jnp.asarray(4), np.array(4)):
        with pytest.raises(TypeError, match=r"Car.seats is a static setting and cannot be an array"):
            car(seats=value)
    with pytest.raises(ValueError, match=r"Car.kind must be one of 'small', 'large'; got 'huge'"):
        car(kind="huge")
    with pytest.raises(ValueError, match=r"Car\.kind"):
        car().replace(kind="huge")


def test_ranges_are_checked_when_a_person_makes_or_changes_a_record():
    for bad, said in [(0.0, "got 0"), (-1, "got -1"), (float("nan"), "got nan")]:
        with pytest.raises(ValueError, match=rf"Wheel\.radius must be greater than 0; {said}"):
            Wheel(radius=bad)
        with pytest.raises(ValueError, match=r"Wheel\.radius"):
            Wheel().replace(radius=bad)
        with pytest.raises(ValueError, match=r"Wheel\.radius"):
            car().replace(**{"wheel.radius": bad})
    with pytest.raises(ValueError, match=r"Wheel.grip must be at least 0 and at most 1; got 2 in 1 of 3 places"):
        Wheel(grip=[0.5, 2.0, 1.0])


def test_ranges_are_not_checked_under_transformations():
    shrunk = jax.jit(lambda r: Wheel(radius=r).replace(radius=r - 10).radius)(5.0)
    assert float(shrunk) == -5.0
    assert float(jax.grad(lambda r: Wheel(radius=r).radius ** 2)(3.0)) == 6.0
    leaves, treedef = jax.tree.flatten(Wheel())
    assert float(jax.tree.unflatten(treedef, [-1.0 for _ in leaves]).radius) == -1.0


def test_pytree_round_trip_keeps_everything():
    full = car(spare=Wheel(radius=0.3, grip=0.5), loads=(Wheel(), Wheel(radius=2.0)), marks={"a": [1, 2]}, seats=5)
    leaves, treedef = jax.tree.flatten(full)
    again = jax.tree.unflatten(treedef, leaves)
    assert repr(again) == repr(full)
    assert jax.tree.structure(again) == treedef
    assert (again.seats, again.kind, len(leaves)) == (5, "small", 7)


def test_leaves_have_names():
    full = car(spare=Wheel(), loads=(Wheel(),), marks={"a": 1})
    paths = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in jax.tree_util.tree_leaves_with_path(full)]
    assert paths == ["wheel.radius", "mass", "spare.radius", "loads.0.radius", "marks.a"]


def test_records_of_axes_are_rebuilt_without_checks():
    axes = jax.tree.map(lambda _: None, car())
    assert axes.mass is None
    axes = jax.tree.map(lambda _: -1, car())
    assert axes.wheel.radius == -1
    stack = car(mass=[1.0, 2.0])
    in_axes = jax.tree.map(lambda x: 0 if x.ndim else None, stack)
    np.testing.assert_array_equal(jax.vmap(lambda c: c.mass * c.wheel.radius, in_axes=(in_axes,))(stack), [0.5, 1])


def test_static_fields_select_the_program():
    traced = []

    @jax.jit
    def f(c):
        traced.append(c.seats)
        return c.mass

    for seats in (4, 4, 5):
        f(car(seats=seats))
    assert traced == [4, 5]


def test_gradients_of_records_are_records():
    slope = jax.grad(lambda c: c.mass * c.wheel.radius)(car())
    assert isinstance(slope, Car)
    assert float(slope.wheel.radius) == 900.0
    assert slope.seats == 4


def test_replace_changes_a_copy():
    first = car()
    second = first.replace(**{"wheel.radius": 0.7, "mass": 1, "wheel.grip": 0.2, "seats": 2})
    assert float(first.wheel.radius) == 0.5
    assert first.wheel.grip is None
    np.testing.assert_allclose([second.wheel.radius, second.wheel.grip, second.mass], [0.7, 0.2, 1.0])
    assert second.seats == 2
    both = first.replace(wheel=Wheel(radius=3.0), **{"wheel.grip": 0.5})  # the new part, changed
    np.testing.assert_allclose([both.wheel.radius, both.wheel.grip], [3.0, 0.5])


@settings(max_examples=50, deadline=None)
@given(
    st.floats(min_value=2.0**-100, max_value=2.0**100, width=32),
    st.one_of(st.none(), st.floats(0, 1, width=32)),
    st.integers(1, 9),
)
def test_any_record_survives_flattening_and_replacing(radius, grip, seats):
    made = car(wheel=Wheel(radius=radius, grip=grip), seats=seats)
    leaves, treedef = jax.tree.flatten(made)
    for again in (jax.tree.unflatten(treedef, leaves), made.replace(), jax.tree.map(lambda x: x, made)):
        assert float(again.wheel.radius) == radius
        assert (again.wheel.grip is None) == (grip is None)
        assert grip is None or float(again.wheel.grip) == grip
        assert again.seats == seats


def test_sweep():
    swept, axes = anajax.sweep(car(), **{"wheel.radius": [1, 2, 3], "mass": np.array([10.0, 20.0, 30.0])})
    assert (axes.wheel.radius, axes.mass) == (0, 0)
    assert swept.wheel.radius.dtype == jnp.float32
    found = jax.vmap(lambda c: c.mass * c.wheel.radius, in_axes=(axes,))(swept)
    np.testing.assert_array_equal(found, [10, 40, 90])
    _, axes = anajax.sweep(car(), mass=[1.0])
    assert axes.wheel.radius is None


def test_sweep_of_what_is_no_number_is_refused():
    with pytest.raises(TypeError, match="cannot sweep 'spare': it is None, not a number"):
        anajax.sweep(car(), spare=[1.0])
    with pytest.raises(TypeError, match="Wheel has no field 'size'; it has radius, grip"):
        anajax.sweep(car(), **{"wheel.size": [1.0]})
    with pytest.raises(ValueError, match=r"Wheel.radius must be greater than 0; got 0 in 1 of 2 places"):
        anajax.sweep(car(), **{"wheel.radius": [0.0, 1.0]})


def test_get_and_map_fields():
    assert float(get(car(), "wheel.radius")) == 0.5
    with pytest.raises(TypeError, match="Car has no field 'wings'"):
        get(car(), "wings")
    paths = []
    doubled = map_fields(lambda path, x: (paths.append(path), 2 * x)[1], car())
    assert paths == ["wheel.radius", "mass"]
    np.testing.assert_array_equal([doubled.wheel.radius, doubled.mass], [1, 1800])


def test_repr_shows_values_of_small_arrays_and_shapes_of_large_ones():
    assert repr(Wheel()) == "Wheel(radius=0.5, grip=None)"
    assert repr(Wheel(radius=jnp.ones((4, 5)))) == "Wheel(radius=float32[4,5], grip=None)"
    assert repr(Wheel(radius=[1.0, 2.5])) == "Wheel(radius=[1.  2.5], grip=None)"
    assert "marks={'a': 1}" in repr(car(marks={"a": 1}))
    seen = []
    jax.jit(lambda w: seen.append(repr(w)))(Wheel())
    assert seen == ["Wheel(radius=float32[], grip=None)"]


def test_shapes_in_one_voice():
    _check.shape(jnp.zeros((2, 3)), "x", "... rows", rows=3)
    _check.shape(jnp.zeros(3), "x", "... rows", rows=3)
    with pytest.raises(ValueError, match=r"x must have shape \(rows, cols\) with rows=3; got \(2, 3\). Transpose it"):
        _check.shape(jnp.zeros((2, 3)), "x", "rows cols", "Transpose it", rows=3)
    with pytest.raises(ValueError, match=r"x must have shape \(..., rows\); got \(\)"):
        _check.shape(jnp.zeros(()), "x", "... rows")


def test_names_of_layers_may_have_dots():
    layers = {"a": car(), "a.b": car(), "a.b.out": car()}
    changed = replaced(layers, {"a.b.out.wheel.radius": 0.7, "a.wheel.radius": 0.6})
    assert [float(get(changed, f"{n}.wheel.radius")) for n in layers] == [pytest.approx(r) for r in (0.6, 0.5, 0.7)]
    with pytest.raises(TypeError, match=r"there is no 'c' of 'c\.d'; there are a, a\.b, a\.b\.out"):
        get(layers, "c.d")
