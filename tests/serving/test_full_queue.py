"""A queue that fills between a request's admission and the engine's next step: nobody else may suffer from it."""

import time

import tfguide
import tfguide.torch as tg
from tests.support import random_weights
from tfguide.serving import Engine, Finish, Request
from tfguide.serving.service import Service

CONFIG = tfguide.ModelConfig(
    kind="decoder", d_model=12, n_layers=1, n_heads=2, d_ff=20, vocab_size=37, max_positions=96, norm="rms",
    positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
)  # fmt: skip


def test_a_preemption_after_the_admission_ends_no_engine():
    """One place is left in the queue, a request gets it, and a running sequence is preempted before it is added."""
    engine = Engine(tg.from_weights(CONFIG, random_weights(CONFIG)), n_blocks=5, rows=2, tokens=64, waiting=1)
    ended = []
    service = Service(engine, lambda updates: ended.extend(u.sequence for u in updates if u.finish))
    prompt, running = range(30), []
    for first in (1, 2):
        running += engine.add(Request(prompt=[first, *prompt], max_new_tokens=40))
        engine.step()
    while engine.pool.n_unused:
        engine.step()
    (last,) = service.submit(Request(prompt=[3, *prompt], max_new_tokens=2))
    while not engine.scheduler.n_preempted:
        engine.step()
    assert len(engine.scheduler.waiting) == 1
    service.start()
    deadline = time.monotonic() + 20
    while len(ended) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    service.stop()
    assert service.failure is None
    assert [s.finish for s in (*running, last)] == [Finish.LENGTH] * 3
