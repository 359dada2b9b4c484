"""Flax's modules that are made of several layers: recurrent cells, and attention."""

from __future__ import annotations

from typing import Any

from flax import nnx

from anajax.arrays import Hardware
from anajax.nn.analog import OnCrossbars
from anajax.nn.conversion import make_analog


class _Composite(OnCrossbars, nnx.Module):
    """A module of Flax whose layers, once made, are analog."""

    def set_up(self, hardware: Hardware | None, learn_output_scale: bool, param_dtype: Any) -> None:
        """Convert the layers; they have their own types."""
        make_analog(self, Hardware() if hardware is None else hardware, learn_output_scale=learn_output_scale)


class SimpleCell(_Composite, nnx.SimpleCell):
    """`flax.nnx.SimpleCell` on crossbar arrays: its arguments, `hardware` and `learn_output_scale`; see `RNN`."""


class LSTMCell(_Composite, nnx.LSTMCell):
    """`flax.nnx.LSTMCell` on crossbar arrays: its arguments, `hardware` and `learn_output_scale`; see `RNN`.

    Each gate has two matrices of its own. `OptimizedLSTMCell` has two in all, and fills arrays better.
    """


class OptimizedLSTMCell(_Composite, nnx.OptimizedLSTMCell):
    """`flax.nnx.OptimizedLSTMCell` on crossbar arrays: its arguments, `hardware` and `learn_output_scale`; see `RNN`.

    One matrix for the inputs of all gates, another for the state.
    """


class GRUCell(_Composite, nnx.GRUCell):
    """`flax.nnx.GRUCell` on crossbar arrays: its arguments, `hardware` and `learn_output_scale`; see `RNN`."""


class MultiHeadAttention(_Composite, nnx.MultiHeadAttention):
    """`flax.nnx.MultiHeadAttention` on crossbar arrays: its arguments, `hardware` and `learn_output_scale`.

    The projections to queries, keys and values, and that of the heads to the outputs, run on arrays; the products of
    queries with keys, and of weights with values, stay digital, unless `attention_fn` is an `AttentionProducts`.
    """
