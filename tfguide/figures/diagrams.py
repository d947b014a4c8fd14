"""Block diagrams of the model families.

Data flow downwards. Blue is attention, gold the feed-forward network, mauve a norm, teal an embedding or a head; the
red line is the residual, which carries a sublayer's input past it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfguide.figures import canvas, style
from tfguide.figures.flow import Flow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ATTENTION, FEED_FORWARD, NORM, TABLE = style.BLUE, style.GOLD, style.MAUVE, style.TEAL


def encoder_family() -> Figure:
    """BERT: every position sees every other, and each norm stands behind the sum."""
    with style.style():
        ax = canvas.canvas(3.9, 6.35)
        flow = Flow(ax, 0.75, 3.25, 0.06)
        flow.text("tokens  (T,)")
        flow.arrow()
        flow.box("Embeddings", TABLE, "token + position + type")
        flow.arrow()
        flow.box("Norm", NORM)
        top = flow.y
        flow.arrow(0.55)
        flow.branch(0.2)
        flow.box("Self-attention", ATTENTION, "every position sees all")
        flow.merge()
        flow.arrow(0.2)
        flow.box("Norm", NORM)
        flow.arrow(0.42)
        flow.branch(0.22)
        flow.box("Feed-forward", FEED_FORWARD, "GELU")
        flow.merge()
        flow.arrow(0.2)
        flow.box("Norm", NORM)
        flow.frame(top + 0.12, "L blocks")
        flow.arrow(0.34)
        flow.text("hidden states  (T, D)")
    return ax.figure


def decoder_family() -> Figure:
    """GPT-2: a position sees itself and what came before, each norm stands before its sublayer, the head is tied."""
    with style.style():
        ax = canvas.canvas(3.9, 7.15)
        flow = Flow(ax, 0.75, 3.25, 0.06)
        flow.text("tokens  (T,)")
        flow.arrow()
        table = flow.box("Embeddings", TABLE, "token + position")
        top = flow.y
        flow.arrow(0.55)
        flow.branch(0.2)
        flow.box("Norm", NORM)
        flow.arrow(0.22)
        flow.box("Causal self-attention", ATTENTION, "sees itself and the past")
        flow.merge()
        flow.arrow(0.0)
        flow.branch(0.12, lead=0.3)
        flow.box("Norm", NORM)
        flow.arrow(0.22)
        flow.box("Feed-forward", FEED_FORWARD, "GELU")
        flow.merge(tail=0.12)
        flow.frame(top + 0.12, "L blocks")
        flow.arrow(0.32)
        flow.box("Final norm", NORM)
        flow.arrow()
        head = flow.box("Head", TABLE, "the embedding, transposed")
        flow.arrow()
        flow.text("logits  (T, V)")
        way = (flow.left, table), (0.32, table), (0.32, head), (flow.left, head)
        canvas.line(ax, *way, colour=TABLE, width=1.6, dash=(0, (4, 2)))
        canvas.text(ax, 0.22, (table + head) / 2, "one matrix", rotation=90, ha="right")
    return ax.figure


def encoder_decoder_family() -> Figure:
    """T5: an encoder reads the source once, and each decoder block looks at what it made."""
    with style.style():
        ax = canvas.canvas(5.3, 8.9)
        encoder = Flow(ax, 0.22, 2.12, 0.06, size=10.5)
        encoder.text("source  (S,)")
        encoder.arrow()
        encoder.box("Embeddings", TABLE, "token")
        top = encoder.y
        encoder.arrow(0.55)
        encoder.branch(0.2)
        encoder.box("Norm", NORM)
        encoder.arrow(0.22)
        encoder.box("Self-attention", ATTENTION, "sees the whole source")
        encoder.merge()
        encoder.arrow(0.0)
        encoder.branch(0.12, lead=0.3)
        encoder.box("Norm", NORM)
        encoder.arrow(0.22)
        encoder.box("Feed-forward", FEED_FORWARD, "ReLU")
        encoder.merge(tail=0.12)
        encoder.frame(top + 0.12, "L blocks")
        encoder.arrow(0.32)
        encoder.box("Final norm", NORM)

        decoder = Flow(ax, 2.92, 4.82, 0.06, size=10.5)
        decoder.text("target so far  (T,)")
        decoder.arrow()
        decoder.box("Embeddings", TABLE, "the same table")
        top = decoder.y
        decoder.arrow(0.55)
        decoder.branch(0.2)
        decoder.box("Norm", NORM)
        decoder.arrow(0.22)
        decoder.box("Causal self-attention", ATTENTION, "sees the target so far")
        decoder.merge()
        decoder.arrow(0.0)
        decoder.branch(0.12, lead=0.3)
        decoder.box("Norm", NORM)
        decoder.arrow(0.22)
        cross = decoder.box("Cross-attention", ATTENTION, "sees the whole source")
        decoder.merge()
        decoder.arrow(0.0)
        decoder.branch(0.12, lead=0.3)
        decoder.box("Norm", NORM)
        decoder.arrow(0.22)
        decoder.box("Feed-forward", FEED_FORWARD, "ReLU")
        decoder.merge(tail=0.12)
        decoder.frame(top + 0.12, "L blocks")
        decoder.arrow(0.32)
        decoder.box("Final norm", NORM)
        decoder.arrow()
        decoder.box("Head", TABLE, "the table, transposed")
        decoder.arrow()
        decoder.text("logits  (T, V)")

        # The memory leaves the encoder at its end and enters every decoder block.
        end, side = encoder.y + 0.34, 2.52
        way = (encoder.middle, encoder.y), (encoder.middle, end), (side, end), (side, cross), (decoder.left, cross)
        canvas.arrow(ax, *way, colour=ATTENTION, width=2.0)
        canvas.text(ax, encoder.middle, end + 0.2, "memory  (S, D): keys and")
        canvas.text(ax, encoder.middle, end + 0.39, "values for every block")
    return ax.figure


def block_variants() -> Figure:
    """One block of Llama and one of PaLM side by side: sublayers in sequence and in parallel."""
    with style.style():
        ax = canvas.canvas(5.3, 4.6)
        llama = Flow(ax, 0.22, 2.22, 0.06, size=10.5)
        llama.text("Llama: in sequence", bold=True)
        llama.text("x  (T, D)")
        llama.arrow(0.0)
        llama.branch(0.16, lead=0.2)
        llama.box("RMS norm", NORM)
        llama.arrow(0.22)
        llama.box("Causal attention", ATTENTION, "rotary, grouped heads")
        llama.merge()
        llama.arrow(0.0)
        llama.branch(0.12, lead=0.3)
        llama.box("RMS norm", NORM)
        llama.arrow(0.22)
        llama.box("Feed-forward", FEED_FORWARD, "SwiGLU")
        llama.merge(tail=0.25)

        palm = Flow(ax, 2.85, 4.85, 0.06, size=10.5)
        palm.text("PaLM: in parallel", bold=True)
        palm.text("x  (T, D)")
        palm.arrow(0.0)
        palm.branch(0.16, lead=0.2)
        palm.box("Layer norm", NORM, "no bias")
        palm.fork(
            ("Causal\nattention", ATTENTION, "rotary,\n1 K/V head"),
            ("Feed-\nforward", FEED_FORWARD, "SwiGLU"),
            1.15,
        )
        palm.merge(tail=0.25)
    return ax.figure
