"""The console command: `anajax demo`, `anajax devices`, `anajax study`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def demo(
    chips: int = 1000,
    dataset: Literal["digits", "mnist", "fashion_mnist"] = "digits",
    data_dir: Path | None = None,
    download: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    seed: int = 0,
    out: Path = Path("anajax-demo"),
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Train a small network plainly and hardware-aware, program both onto many chips, and let them age.

    Args:
        chips: Number of simulated chips of each network.
        dataset: Embedded 8 x 8 digits, or a dataset prepared by tensorflow-datasets.
        data_dir: Folder of tensorflow-datasets; otherwise TFDS_DATA_DIR, then its usual folder.
        download: Fetch and prepare a missing dataset (needs a network and TensorFlow).
        seed: Of training and of the chips.
        out: Folder for the figure and the numbers.
        quick: At most 50 chips and a short training.
    """
    from anajax import demo as job

    job.run(
        job.Options(
            chips=chips,
            dataset=dataset,
            data_dir=data_dir,
            download=download,
            seed=seed,
            out=out,
            quick=quick,
        )
    )


def devices(name: Annotated[str | None, tyro.conf.Positional] = None, out: Path | None = None) -> None:
    """List the published devices, or show one: its numbers in a table, its behaviour in a figure.

    Args:
        name: A device of the list; all of them by default.
        out: File of the figure; by default NAME.png.
    """
    from anajax import catalogue

    catalogue.show_all() if name is None else catalogue.show(name, out)


def study(
    file: Annotated[Path, tyro.conf.Positional],
    out: Path | None = None,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    devices: int | None = None,
) -> None:
    """Run a study described in a TOML file: a network on many chips, as they age, at swept settings of the hardware.

    Args:
        file: The description; `docs/guide/studies.md` has one.
        out: Folder for the network, the chunks, the numbers and the figure; by default the name of the file.
        resume: Go on with a study that was stopped.
        dry_run: Only check the file, and estimate memory and time.
        devices: How many of this machine's devices to spread the chips over; all by default.
    """
    import jax

    from anajax import study_file

    if devices is not None:
        if not 1 <= devices <= (os.cpu_count() or 1):
            raise ValueError(f"devices must be from 1 to {os.cpu_count()}, the cores of this machine; got {devices}")
        jax.config.update("jax_num_cpu_devices", devices)  # a CPU is one device, unless asked to be several
    try:
        study_file.run(file, out=out or Path(file.stem), resume=resume, dry_run=dry_run, devices=devices)
    except KeyboardInterrupt:
        sys.exit("anajax: stopped" if dry_run else "anajax: stopped; the same command with --resume goes on")


def main(args: list[str] | None = None) -> None:
    """Run the console command; errors that a user can mend are one line, not a traceback."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"demo": demo, "devices": devices, "study": study},
            prog="anajax",
            description="Analog in-memory computing in JAX.",
            args=args,
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"anajax: {error}")


if __name__ == "__main__":
    main()
