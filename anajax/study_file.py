"""What `anajax study` runs: a study described by a TOML file, from which nothing is executed."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from flax import nnx
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from anajax import _check, _tables, chips, data, nn, perceptron
from anajax._record import get
from anajax.arrays import Hardware, Modifier
from anajax.chips import _folder
from anajax.chips._provenance import fields
from anajax.chips.running import mesh_of

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0, "month": 30 * 86400.0, "year": 365 * 86400.0}
_ACTIVATIONS = {"relu": nnx.relu, "tanh": nnx.tanh, "sigmoid": nnx.sigmoid, "gelu": nnx.gelu}
_DESIGNS = {"grid": chips.grid, "points": chips.points, "random": chips.random, "sobol": chips.sobol}
_DESIGNS["latin_hypercube"] = chips.latin_hypercube
_KINDS = {
    "int": (int, "an integer"),
    "float": ((int, float), "a number"),
    "str": (str, "text"),
    "bool": (bool, "true or false"),
    "list": (list, "a list"),
    "dict": (dict, "a table"),
}
_ROWS = 24  # of a table, before it refers to the file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Table `[data]`: `name` as in `anajax.data.load`, `images` of the test set that each chip reads, `folder`."""

    name: str = "digits"
    images: int = 1000
    folder: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """Table `[network]`: sizes of the `hidden` layers, `activation` between them, or a `checkpoint` of parameters."""

    hidden: list = dataclasses.field(default_factory=lambda: [64])
    activation: str = "relu"
    checkpoint: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Table `[training]`: `epochs` in exact numbers, then `aware` ones on the hardware with a `modifier`.

    `learning_rate` is that of Adam at the first step of each, `batch` its examples, and `clip_sigmas` the standard
    deviations at which aware training clips the weights of a layer.
    """

    epochs: int = 20
    aware: int = 0
    modifier: dict = dataclasses.field(default_factory=dict)
    learning_rate: float = 2e-3
    batch: int = 64
    clip_sigmas: float = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """Table `[design]`: `kind`, and for drawn ones the number of `points`, `seed`, and whether they are in `log`."""

    kind: str = "grid"
    points: int = 16
    seed: int = 0
    log: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A study file, read and checked.

    Attributes:
      title: of the table.
      chips: their number.
      times: seconds since programming, or text such as `"1 day"`.
      seed: of training and of the chips.
      threshold: accuracy from which a chip counts as good; 0 for no yield.
      chunk: chips of one call of the compiled program; 0 for a twentieth.
      data: see `Data`.
      network: see `Network`.
      training: see `Training`.
      hardware: the spec of all layers.
      sweep: dotted path -> values, or a range, of fields of the hardware.
      design: see `Design`.
    """

    title: str = ""
    chips: int = 100
    times: list = dataclasses.field(default_factory=lambda: [0.0])
    seed: int = 0
    threshold: float = 0.0
    chunk: int = 0
    data: Data = dataclasses.field(default_factory=Data)
    network: Network = dataclasses.field(default_factory=Network)
    training: Training = dataclasses.field(default_factory=Training)
    hardware: Hardware
    sweep: dict
    design: Design = dataclasses.field(default_factory=Design)

    @property
    def modifier(self) -> Any:
        """The noise of aware training: that of the hardware, unless the training has one."""
        given = self.training.modifier
        return _tables.build(given, "training.modifier") if given else self.hardware.modifier


def read(path: str | Path) -> Plan:
    """Read a study file; raise an error that names the key, its value and what is allowed."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no study file at {path}")
    try:
        table = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    raw = tuple(table)
    hardware = _tables.build(table.pop("hardware", {"preset": "standard_aimc"}), "hardware")
    if not isinstance(hardware, Hardware):
        raise ValueError(f"hardware must be a Hardware; got {type(hardware).__name__}")
    sweep = _flat(table.pop("sweep", {}))
    parts = {
        name: _settings(kind, table.pop(name, {}), f"{name}.")
        for name, kind in (("data", Data), ("network", Network), ("training", Training), ("design", Design))
    }
    plan = _settings(Plan, table, "", hardware=hardware, sweep=sweep, **parts)
    _check_plan(plan, set(raw))
    return plan


def _check_plan(plan: Plan, tables: set[str]) -> None:
    """Raise for whatever would fail later, or have no effect."""
    for name in plan.sweep:
        try:
            get(plan.hardware, name)
        except TypeError as error:
            raise ValueError(f"sweep.{name}: {error}") from error
    _among(plan.network.activation, "network.activation", _ACTIVATIONS)
    _among(plan.design.kind, "design.kind", _DESIGNS)
    for name, value, least in (
        ("data.images", plan.data.images, 1),
        ("training.batch", plan.training.batch, 1),
        ("training.epochs", plan.training.epochs, 0),
        ("training.aware", plan.training.aware, 0),
        ("chunk", plan.chunk, 0),
        ("design.points", plan.design.points, 1),
        ("seed", plan.seed, 0),
        *((f"network.hidden[{k}]", size, 1) for k, size in enumerate(plan.network.hidden)),
    ):
        _check.integer(value, name, ge=least)
    if not 0 <= plan.threshold <= 1:
        raise ValueError(f"threshold must be an accuracy from 0 to 1; got {plan.threshold}")
    if "training" in tables and plan.network.checkpoint:
        raise ValueError("training has no effect on a network.checkpoint; leave one of them out")
    if "design" in tables and not plan.sweep:
        raise ValueError("design has no effect without a sweep")
    if plan.design.kind in ("grid", "points") and plan.design != Design(kind=plan.design.kind):
        raise ValueError(
            f"points, seed and log of design are of drawn kinds; a {plan.design.kind} takes values of fields"
        )
    if plan.training.modifier and not isinstance(plan.modifier, Modifier):
        raise ValueError(f"training.modifier must be a Modifier; got {type(plan.modifier).__name__}")
    for time in plan.times:
        _seconds(time)


def run(
    path: str | Path,
    *,
    out: Path,
    resume: bool = False,
    dry_run: bool = False,
    devices: int | None = None,
    console: Console | None = None,
) -> xr.Dataset | None:
    """Run a study file; return its study, or with `dry_run` print what it would take."""
    console, plan = console or Console(), read(path)
    mesh_of(devices)  # that there are so many
    if not dry_run:
        _claim(out, plan, resume)
    study = _study(plan, None if dry_run else out / "network", Path(path).parent, console)
    if dry_run:
        console.print(str(study.estimate(chunk=plan.chunk or None, devices=devices)), soft_wrap=True)
        if not plan.network.checkpoint:
            console.print("training, which comes first, is not counted")
        return None
    found = study.run(folder=out / "chunks", chunk=plan.chunk or None, devices=devices, progress=plan.title or "chips")
    found = found.assign_attrs(study_file=Path(path).read_text())
    _print(_table(found, plan), console)
    console.print(f"numbers: {chips.save(found, out / 'study.nc')}", soft_wrap=True)
    _draw(found, plan, out / "study.png", console)
    return found


def _claim(out: Path, plan: Plan, resume: bool) -> None:
    """Make the folder of the study, or raise where it holds something else."""
    known = out / "study.json"
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder; {out} is a file")
    if known.exists() and not resume:
        raise ValueError(f"{out} holds a study already; go on with it by --resume, or name another folder by --out")
    if out.exists() and not known.exists() and any(out.iterdir()):
        raise ValueError(f"{out} holds something else than a study; name another folder by --out")
    out.mkdir(parents=True, exist_ok=True)
    trained = {name: dataclasses.asdict(getattr(plan, name)) for name in ("data", "network", "training")}
    hardware = {name: np.asarray(leaf).tolist() for name, leaf in fields(plan.hardware)}
    settings = str(jax.tree.structure(plan.hardware))
    _folder.match(known, trained | {"seed": plan.seed, "hardware": hardware, "settings": settings})


def _study(plan: Plan, kept: Path | None, beside: Path, console: Console) -> chips.Study:
    """Return the study, its network trained and kept in a folder; untrained where there is none to keep it in."""
    try:
        dataset = data.load(plan.data.name, plan.data.folder or None)
    except ValueError as error:
        raise ValueError(f"data.{error}") from error
    if plan.data.images > len(dataset.x_test) and plan.data != Data(name=plan.data.name, folder=plan.data.folder):
        raise ValueError(f"data.images must be at most {len(dataset.x_test)}; got {plan.data.images}")
    x, x_test = (jnp.asarray(a.reshape(len(a), -1)) for a in (dataset.x_train, dataset.x_test[: plan.data.images]))
    sizes = (x.shape[1], *plan.network.hidden, dataset.classes)
    activation = _ACTIVATIONS[plan.network.activation]
    apply, params, hardware, _ = nn.split(perceptron.network(sizes, plan.hardware, plan.seed, activation))
    design = _DESIGNS[plan.design.kind]
    drawn = plan.design.kind not in ("grid", "points")
    options = {"n": plan.design.points, "seed": plan.design.seed, "log": plan.design.log} if drawn else {}
    study = chips.Study(
        apply=apply,
        params=params,
        hardware=hardware,
        x=x_test,
        y=jnp.asarray(dataset.y_test[: plan.data.images]),
        chips=plan.chips,
        times=[_seconds(t) for t in plan.times],
        seed=plan.seed,
        sweep=design(plan.sweep, **options) if plan.sweep else None,
    )
    if plan.network.checkpoint:
        return dataclasses.replace(study, params=nn.load(beside / plan.network.checkpoint, params))
    if kept is None:
        return study
    if kept.exists():
        return dataclasses.replace(study, params=nn.load(kept, params))
    with console.status("training"):
        params = _trained(plan, study, x, jnp.asarray(dataset.y_train))
    nn.save(params, kept)
    return dataclasses.replace(study, params=params)


def _trained(plan: Plan, study: chips.Study, x: jax.Array, y: jax.Array) -> Any:
    wanted, exact = plan.training, Hardware()
    steps = len(x) // wanted.batch
    options = {"learning_rate": wanted.learning_rate, "batch": wanted.batch}
    first, second = jax.random.split(jax.random.key(plan.seed))
    params = study.params
    if wanted.epochs:
        params, _ = nn.train(study.apply, params, exact, x, y, wanted.epochs * steps, first, **options)
    params = nn.init_input_ranges(study.apply, params, [x[:5000]])
    if wanted.aware:
        hardware = study.hardware.replace(modifier=plan.modifier)
        options |= {"after": lambda params: nn.clip(params, sigmas=wanted.clip_sigmas)}
        params, _ = nn.train(study.apply, params, hardware, x, y, wanted.aware * steps, second, **options)
    return params


def _table(study: xr.Dataset, plan: Plan) -> Table:
    summary = 100 * chips.summarise(study, plan.threshold or None)
    dims = [str(d) for d in summary["mean"].dims if d != "time"]
    fields = [n for n in plan.sweep if n in summary.coords]
    points = summary.stack(point_of_table=dims) if dims else summary.expand_dims("point_of_table")
    out = Table(title=f"{plan.title or 'study'}: accuracy of {study.sizes['chip']:,} chips in %", box=box.SIMPLE)
    for name in (*fields, "age"):
        out.add_column(name, no_wrap=True)
    columns = ["mean", "5th pct", "95th pct"] + (["yield"] if plan.threshold else [])
    for name in columns:
        out.add_column(name, justify="right", no_wrap=True)
    labels = [t if isinstance(t, str) else f"{t:g} s" for t in plan.times]
    rows = [(k, t) for k in range(points.sizes["point_of_table"]) for t in range(len(labels))]
    for k, t in rows[:_ROWS]:
        row = points.isel(point_of_table=k, time=t)
        settings = [f"{float(row[name]):.4g}" for name in fields]
        numbers = [f"{float(row['mean']):.2f} ± {float(row['ci95']):.2f}", f"{float(row['p05']):.1f}"]
        numbers.append(f"{float(row['p95']):.1f}")
        if plan.threshold:
            numbers.append(
                f"{float(row['yield']):.1f} ({float(row['yield_low']):.1f} to {float(row['yield_high']):.1f})"
            )
        out.add_row(*settings, labels[t], *numbers)
    notes = ["± half of the 95 % interval of the mean"]
    if plan.threshold:
        notes.append(f"yield: chips at {100 * plan.threshold:g} or above, with its 95 % interval")
    if len(rows) > _ROWS:
        notes.append(f"the first {_ROWS} of {len(rows)} rows; the file has all")
    out.caption = "\n".join(notes)
    return out


def _print(table: Table, console: Console) -> None:
    """Print a table whole: on a narrow terminal its lines wrap, and no number is cut."""
    wide = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    (console if wide <= console.width else Console(file=console.file, width=wide)).print(table)


def _draw(study: xr.Dataset, plan: Plan, path: Path, console: Console) -> None:
    from anajax import plot

    title, threshold = plan.title or "study", plan.threshold or None
    if plan.sweep:
        figure = plot.accuracy_over_fields(study, threshold=threshold)
    elif len(plan.times) > 1:
        figure = plot.accuracy_over_time({title: {"accuracy": study}}, threshold=threshold)
    else:
        return
    figure.savefig(path, dpi=150)
    console.print(f"figure:  {path}", soft_wrap=True)


def _settings(kind: type, table: Any, where: str, **given: Any) -> Any:
    """Return a dataclass of settings from a table whose keys and types are those of its fields."""
    if not isinstance(table, Mapping):
        raise ValueError(f"{where[:-1]} must be a table; got {table!r}")
    keys = {f.name: f for f in dataclasses.fields(kind) if f.name not in given}
    for name, value in table.items():
        if name not in keys:
            allowed = list(dict.fromkeys([*keys, *(() if where else ("hardware", "sweep", *given))]))
            raise ValueError(f"{where}{name} is not a key of a study file; {_tables.meant(name, allowed)}")
        wanted, called = _KINDS[str(keys[name].type)]
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise ValueError(f"{where}{name} must be {called}; got {value!r}")
    return kind(**table, **given)


def _among(value: str, name: str, allowed: Mapping[str, Any]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def _seconds(time: Any) -> float:
    """Return seconds of a number, or of text such as "1 day"."""
    if isinstance(time, str):
        number, _, unit = time.strip().partition(" ")
        unit = unit if unit in _UNITS else unit.removesuffix("s")
        if unit not in _UNITS or not re.fullmatch(r"[0-9.]+(e[+-]?[0-9]+)?", number):
            raise ValueError(f"times must be seconds or text such as '1 day', in {', '.join(_UNITS)}; got {time!r}")
        return float(number) * _UNITS[unit]
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        raise ValueError(f"times must be seconds or text such as '1 day'; got {time!r}")
    return float(time)


def _flat(table: Any, prefix: str = "") -> dict[str, Any]:
    """Return dotted path -> values of nested tables, which is what TOML makes of dotted keys."""
    if not isinstance(table, Mapping):
        raise ValueError(f"sweep must be a table of fields and their values; got {table!r}")
    out: dict[str, Any] = {}
    for name, value in table.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return out
