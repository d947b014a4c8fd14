"""Models of `tfguide.tensorflow` as functions of tensors alone, which LiteRT's converter reads.

LiteRT computes no float64, in which the package computes the angles of positions. Here they are tables: the angles of
all positions up to a maximum are computed before, and the graph gathers rows of them.
"""

from __future__ import annotations

import tensorflow as tf

from tfguide.export.names import PAST, by_layer, by_name, cached_shapes
from tfguide.frequencies import attention_factor, rotary_frequencies, scaled_by_length
from tfguide.generation.views import CallView
from tfguide.tensorflow import Decoder, Encoder, EncoderDecoder, Mask, rotary_angles

MODELS = (Encoder, Decoder, EncoderDecoder)
SIGNATURE = "run"


class SlotsView(CallView):
    """A traced call's part of a cache of a fixed size: the new positions replace those from `start` on.

    past: what each layer has kept, each (1, n_slots, ...); start: how many positions are filled; length: T, of the new
    tokens. `present` collects what is kept now.
    """

    def __init__(self, past: list[tuple[tf.Tensor, ...]], start: tf.Tensor, length: tf.Tensor):
        self._past, self._start, self._end, self.present = past, start, start + length, []
        self.positions = tf.range(length)[None] + start  # (1, T)
        self.key_positions = tf.range(past[0][0].shape[1])[None]  # (1, n_slots): no query sees the empty ones

    def append(self, layer: int, parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        """All slots, each (1, n_slots, ...), with the new positions in theirs."""
        joined = tuple(
            tf.reshape(tf.concat([old[:, : self._start], new, old[:, self._end :]], axis=1), old.shape)
            for old, new in zip(self._past[layer], parts, strict=True)
        )
        self.present.append(joined)
        return joined


class _Graph(tf.Module):
    """A model whose variables a SavedModel finds, and the tables of its angles."""

    def __init__(self, model, max_length: int):
        super().__init__()
        self.config, self._model = model.config, model
        self.kept = [variable.value for variable in model.variables]  # Keras hides them from the writer
        self._tables = {slides: _angles(model.config, slides, max_length) for slides in (False, True)}

    def _terms(self, stack, positions, key_positions, visible, slides=False):
        """What a block takes beside x, as `block_terms` of the model's stacks gives it."""
        if self.config.positions == "rotary":
            rotation = tuple(tf.gather(table, positions) for table in self._tables[slides])
            return {"visible": visible, "bias": None, "rotation": rotation}
        bias, _ = stack.position_terms(positions, key_positions, None, slides)
        return {"visible": visible, "bias": bias, "rotation": None}

    def _encode(self, tokens, valid):
        model, positions = self._model, tf.range(tf.shape(tokens)[1])[None]
        terms = self._terms(model.encoder, positions, positions, _padding(valid))
        x = model.embedding(tokens, positions)
        for layer in model.encoder.layers:
            x = layer(x, **terms)
        return model.encoder.final_norm(x) if self.config.final_norm else x

    def _decode(self, tokens, view, **cross):
        """The logits of tokens (B, T); view: a `SlotsView`, or the positions (1, T) where nothing is kept."""
        model, is_kept = self._model, isinstance(view, SlotsView)
        positions, keys = (view.positions, view.key_positions) if is_kept else (view, view)
        distance = positions[:, None, :, None] - keys[:, None, None, :]  # (1, 1, T, S)
        terms = {}
        for slides in (False, True):
            near = distance < self.config.sliding_window if slides and self.config.sliding_window else True
            terms[slides] = self._terms(model.decoder, positions, keys, Mask((distance >= 0) & near), slides)
        x = model.embedding(tokens, positions)
        for index, layer in enumerate(model.decoder.layers):
            x = layer(x, **terms[self.config.slides(index)], **cross, cache=view.layer(index) if is_kept else None)
        return model.logits(model.decoder.final_norm(x) if self.config.final_norm else x)


class EncoderGraph(_Graph):
    """Tokens and a mask (B, T) to hidden states (B, T, D)."""

    def inputs(self, max_length: int) -> dict[str, tf.TensorSpec]:
        """The inputs by name; a size that is None may differ from call to call."""
        return {"tokens": _spec((None, None), tf.int32, "tokens"), "valid": _spec((None, None), tf.bool, "valid")}

    def __call__(self, tokens, valid):
        return {"hidden": self._encode(tokens, valid)}


class DecoderGraph(_Graph):
    """Tokens (1, T) that follow `start` positions to logits (1, T, V), and what is kept, in slots of a fixed number."""

    def inputs(self, max_length: int) -> dict[str, tf.TensorSpec]:
        """The inputs by name; a size that is None may differ from call to call."""
        return {
            "tokens": _spec((1, None), tf.int32, "tokens"),
            "start": _spec((), tf.int32, "start"),
            **{
                PAST + name: _spec((1, max_length, *shape), tf.float32, PAST + name)
                for name, shape in cached_shapes(self.config).items()
            },
        }

    def __call__(self, tokens, start, **past):
        view = SlotsView(by_layer(self.config, past), start, tf.shape(tokens)[1])
        return {"logits": self._decode(tokens, view), **by_name(self.config, view.present)}


class EncoderDecoderGraph(_Graph):
    """Source (B, S) and target (B, T) to logits (B, T, V); nothing is kept between calls."""

    def inputs(self, max_length: int) -> dict[str, tf.TensorSpec]:
        """The inputs by name; a size that is None may differ from call to call."""
        return {
            "source": _spec((None, None), tf.int32, "source"),
            "source_valid": _spec((None, None), tf.bool, "source_valid"),
            "target": _spec((None, None), tf.int32, "target"),
        }

    def __call__(self, source, source_valid, target):
        memory = self._encode(source, source_valid)
        positions = tf.range(tf.shape(target)[1])[None]
        return {"logits": self._decode(target, positions, memory=memory, memory_visible=_padding(source_valid))}


def graph_of(model: Encoder | Decoder | EncoderDecoder, max_length: int) -> _Graph:
    """The module to convert. What is in blocks of a GGUF file is dequantised. Raises ValueError for float64."""
    config = model.config
    if config.positions == "sinusoidal" or (config.positions == "rotary" and scaled_by_length(config.rope_scaling)):
        what = "sinusoidal positions" if config.positions == "sinusoidal" else "a rotation that depends on the length"
        raise ValueError(f"LiteRT computes no float64, which the angles of {what} need: export this model to ONNX")
    if model.block_types:
        model = model.with_weights(config, model.to_weights())
    kind = {"encoder": EncoderGraph, "decoder": DecoderGraph, "encoder-decoder": EncoderDecoderGraph}
    return kind[config.kind](model, max_length)


def _padding(valid):
    """The mask of valid keys (B, S) as (B, 1, 1, S): LiteRT cannot insert an axis by slicing where two sizes change."""
    return Mask(tf.expand_dims(tf.expand_dims(valid, 1), 1), "padding")


def _angles(config, slides, max_length):
    """The cosines and sines of positions 0 to max_length - 1, each (max_length, d / 2); None without a rotation."""
    if config.positions != "rotary":
        return None
    theta, scaling = config.rope(slides)
    angles = rotary_angles(
        tf.range(max_length)[None], rotary_frequencies(config.d_rotary, theta, scaling), attention_factor(scaling)
    )
    return tuple(tf.constant(angle[0].numpy()) for angle in angles)


def _spec(shape, dtype, name):
    return tf.TensorSpec(shape, dtype, name)
