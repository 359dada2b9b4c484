"""A network from elsewhere: the speech detector silero-vad on analog chips, and how far its output moves over a year.

    pip install -e ".[speech]" && pip install --no-deps silero-vad
    python experiments/speech_detector.py [--size smoke|short|full] [--out speech_detector.png]

309,633 weights: four convolutions over a spectrum of 129 bins, an LSTM of 128, an output. They come from the package's
`silero_vad_16k_op15.onnx` (MIT licence; its safetensors hold another checkpoint), and what they compute here is checked
against the ONNX runtime. No labelled speech is at hand: sounds are synthetic, voiced ones of harmonics with formants,
bursts of noise, and pauses; what is measured is how far chips of the standard AIMC model are from exact numbers. The
spectrum stays digital, each vector of inputs has its own range. It was not trained for noise: asked is also whose fault
it is, of the cells or of the outputs.
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _claims import Claims, interval
from _figures import save
from flax import nnx
from matplotlib.figure import Figure

import anajax
from anajax import chips, nn
from anajax.arrays import AbsMax
from anajax.devices import presets

RATE, CONTEXT, STEP = 16000, 64, 512
DAY = 86400.0
TIMES = {"1 s": 1.0, "1 h": 3600.0, "1 day": DAY, "1 month": 30 * DAY, "1 year": 365 * DAY}
SIZES = {
    "smoke": {"chips": 2, "seconds": 1.0, "sounds": 1, "ways": ("standard", "neither")},
    "short": {"chips": 6, "seconds": 4.0, "sounds": 2, "ways": ("standard", "ideal cells", "quiet outputs", "neither")},
    "full": {
        "chips": 25,
        "seconds": 8.0,
        "sounds": 6,
        "ways": ("standard", "ideal cells", "quiet outputs", "neither"),
    },
}


def hardware(way: str) -> anajax.Hardware:
    """Return the standard model, with ideal cells, without noise of the outputs, or with neither flaw."""
    standard = anajax.presets.standard_aimc().replace(inputs=AbsMax())
    if way in ("ideal cells", "neither"):
        standard = standard.replace(device=presets.ideal())
    return standard.replace(output_noise=None) if way in ("quiet outputs", "neither") else standard


class Detector(nnx.Module):
    """Probability of speech in each step of 512 samples, `[n, steps, 576] -> [n, steps]`."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.spectrum = nnx.Conv(1, 258, (256,), strides=128, padding="VALID", use_bias=False, rngs=rngs)
        sizes = ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        self.encoder = nnx.List([nnx.Conv(a, b, (3,), strides=s, padding=((1, 1),), rngs=rngs) for a, b, s in sizes])
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(128, 128, rngs=rngs))
        self.out = nnx.Conv(128, 1, (1,), rngs=rngs)

    def __call__(self, x: Any) -> Any:
        n, steps, _ = x.shape
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 64)), mode="reflect").reshape(n * steps, -1, 1)
        parts = self.spectrum(x)
        x = jnp.sqrt(parts[..., :129] ** 2 + parts[..., 129:] ** 2)
        for conv in self.encoder:
            x = nnx.relu(conv(x))
        return nnx.sigmoid(self.out(nnx.relu(self.rnn(x.reshape(n, steps, 128))))[..., 0])


def weights() -> Path:
    """Return the file of the weights."""
    found = importlib.util.find_spec("silero_vad")  # not imported: that needs PyTorch
    if found is None or not found.submodule_search_locations:
        sys.exit("silero-vad is not installed: pip install -e '.[speech]' && pip install --no-deps silero-vad")
    return Path(found.submodule_search_locations[0]) / "data" / "silero_vad_16k_op15.onnx"


def detector(path: Path) -> Detector:
    """Return the model with its weights."""
    import onnx

    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    tensors["model.stft.weight"] = tensors.pop("model.stft.forward_basis_buffer")
    names = {f"encoder.{k}": f"model.encoder.{k}.reparam_conv" for k in range(4)}
    names |= {"spectrum": "model.stft", "rnn.cell": "model.decoder.rnn", "out": "model.decoder.decoder.2"}
    return nn.from_torch(Detector(rngs=nnx.Rngs(0)), tensors, names)


def sound(seed: int, seconds: float) -> np.ndarray:
    """Return steps of a synthetic sound with what came before each, `[steps, 576]`: voiced parts, noise and pauses."""
    draw = np.random.default_rng(seed)
    parts, total = [], 0
    while total < seconds * RATE:
        n = int(draw.uniform(0.2, 0.8) * RATE)
        t, kind = np.arange(n) / RATE, draw.choice(["voiced", "noise", "pause"], p=[0.5, 0.2, 0.3])
        part = 1e-3 * draw.standard_normal(n)
        if kind == "noise":
            part = part + 0.05 * draw.standard_normal(n)
        if kind == "voiced":
            pitch = draw.uniform(90, 240) * (1 + 0.1 * np.sin(2 * np.pi * draw.uniform(1, 4) * t))
            phase, formants = 2 * np.pi * np.cumsum(pitch) / RATE, draw.uniform((300, 900, 2200), (800, 2000, 3000))
            for k in range(1, 30):
                near = sum(np.exp(-(((k * pitch - f) / 150) ** 2)) for f in formants)
                part = part + 0.2 * (near + 0.02) * np.sin(k * phase)
            part = part * np.sin(np.pi * t * RATE / n) ** 0.5
        parts.append(part)
        total += n
    samples = np.concatenate([np.zeros(CONTEXT), *parts])
    steps = (len(samples) - CONTEXT) // STEP
    return np.stack([samples[k * STEP : k * STEP + CONTEXT + STEP] for k in range(steps)]).astype(np.float32)


def sounds(size: dict) -> Any:
    """Return several, `[n, steps, 576]`."""
    steps = int(size["seconds"] * RATE) // STEP
    return jnp.asarray(np.stack([sound(k, size["seconds"])[:steps] for k in range(size["sounds"])]))


def own_runtime(path: Path, x: Any) -> np.ndarray:
    """Return what the ONNX runtime makes of the same sounds."""
    import onnxruntime

    session, found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]), []
    for one in np.asarray(x):
        state, line = np.zeros((2, 1, 128), np.float32), []
        for step in one:
            y, state = session.run(None, {"input": step[None], "state": state, "sr": np.array(RATE)})
            line.append(float(y[0, 0]))
        found.append(line)
    return np.asarray(found)


def measure(analog: Any, x: Any, hardware: anajax.Hardware, n: int) -> np.ndarray:
    """Return the probabilities of every chip at every time, `[chips, times, sounds, steps]`."""
    apply, params, _, _ = nn.split(analog)
    times = jnp.asarray(list(TIMES.values()))

    def one(i: Any, x: Any) -> Any:
        made, read = chips.keys(0, i)
        chip = apply.program(made, params, hardware)

        def at(part: Any) -> Any:
            k, seconds = part
            key = jax.random.fold_in(read, k)
            return apply(params, hardware, x, key=key, time=seconds, chip=chip, train=False)

        return jax.lax.map(at, (jnp.arange(len(TIMES)), times))

    return np.asarray(jax.jit(lambda index, x: jax.lax.map(lambda i: one(i, x), index))(jnp.arange(n), x))


def draw(exact: np.ndarray, found: dict[str, np.ndarray], out: Path, numbers: Any) -> None:
    """A sound's probabilities on some chips, and the distance over time."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    t = np.arange(exact.shape[1]) * STEP / RATE
    for k, line in enumerate(found["standard"][:8, -1, 0]):
        left.plot(t, line, color="C0", alpha=0.5, linewidth=1, label="chips after a year" if k == 0 else None)
    left.plot(t, exact[0], color="k", linewidth=1.2, label="exact numbers")
    left.set(xlabel="time (s)", ylabel="probability of speech", title="standard")
    left.legend(frameon=False, fontsize="small")
    for way in found:
        means, ends = zip(*(interval(v) for v in numbers[way]["rms distance"]), strict=True)
        right.errorbar(list(TIMES.values()), means, ends, fmt="o-", capsize=3, label=way)
    right.set(xscale="log", xlabel="age of the chip", ylabel="rms distance", ylim=(0, None))
    right.set_xticks(list(TIMES.values()), list(TIMES), fontsize="small", rotation=30)
    right.minorticks_off()
    right.legend(frameon=False, fontsize="small")
    save(figure, out, numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="short")
    parser.add_argument("--out", type=Path, default=Path("speech_detector.png"))
    args = parser.parse_args()
    size, claims, start = SIZES[args.size], Claims(args.size != "smoke"), time.perf_counter()
    path = weights()
    model, x = detector(path), sounds(size)
    exact, theirs = np.asarray(nnx.jit(lambda m, x: m(x))(model, x)), own_runtime(path, x)
    analog = nn.convert(model, hardware("standard"), where=lambda name, module: name != "spectrum")
    speech = float((exact > 0.5).mean())
    print(nn.report(analog))
    print(f"\n{exact.size} steps of {size['sounds']} sounds, speech in {100 * speech:.0f} %; {size['chips']} chips")
    print(f"{'':36s}" + "".join(f"{t:>16s}" for t in TIMES))
    found, numbers = {}, {"speech": speech, "runtime": float(np.abs(exact - theirs).max())}
    for way in size["ways"]:
        found[way] = measure(analog, x, hardware(way), size["chips"])
        distance = np.sqrt(((found[way] - exact) ** 2).mean(axis=(2, 3))).T  # [times, chips]
        changed = ((found[way] > 0.5) != (exact > 0.5)).mean(axis=(2, 3)).T
        numbers[way] = {"rms distance": distance.tolist(), "decisions changed": changed.tolist()}
        for name, values in numbers[way].items():
            cells = "".join(f"{f'{m:.4f} ± {h:.4f}':>16s}" for m, h in map(interval, values))
            print(f"{f'{way}, {name}':36s}{cells}")
    print(f"  {time.perf_counter() - start:.0f} s\n\nclaims")
    apart = numbers["runtime"]
    claims.check("exact numbers are those of the ONNX runtime, within 1e-5", apart < 1e-5, f"{apart:.1e}")
    claims.check("both verdicts occur", 0.05 < speech < 0.95, f"speech in {100 * speech:.0f} %")
    standard, neither = (np.asarray(numbers[way]["rms distance"]) for way in ("standard", "neither"))
    claims.above("cells and outputs make most of the distance", standard[0] / 2 - neither[0], unit="")
    at_once = np.asarray(numbers["standard"]["decisions changed"])[0]
    claims.above("as it is the detector is of no use: a tenth of the decisions change", at_once - 0.1, unit="")
    draw(exact, found, args.out, numbers)
    claims.end()


if __name__ == "__main__":
    main()
