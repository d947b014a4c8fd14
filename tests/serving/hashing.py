"""A model of microseconds: the next token depends on every position before it, and all are read from the cache."""

import numpy as np

from tests.support import small_config
from tfguide.native.storage import ArrayStorage
from tfguide.serving import Engine, Finish, Request

V = 11
MOST = 1 << 20  # float32 counts to 2**24


def mix(state, token):
    return (state * 31 + token * 7 + 5) % MOST


def token_of(states):
    """The next token: it depends on the state of every position."""
    states = np.asarray(states, np.int64)
    return int((states * (np.arange(len(states)) ** 2 + 1) % MOST).sum()) // 13 % V


def alone(prompt, n, stop_tokens=()):
    """The continuation of a prompt, without a cache."""
    tokens, states = list(prompt), []
    while len(tokens) < len(prompt) + n:
        for token in tokens[len(states) :]:
            states.append(mix(states[-1] if states else 1, token))
        tokens.append(token_of(states))
        if tokens[-1] in stop_tokens:
            break
    return tokens[len(prompt) :]


class HashModel:
    """The state of each position is kept in the cache, and computed from the state of the one before it there.

    As in attention, a token that is chosen depends on what the cache holds at all positions.
    """

    def __init__(self, max_positions=200):
        self.config = small_config(n_layers=1, vocab_size=V, max_positions=max_positions, eos_token_id=None)
        self.n_read, self.fails_at = 0, None
        self.broken = set()  # tokens after which the logits are NaN

    def new_storage(self, batch_size, n_slots, cache_dtype=None):
        storage = ArrayStorage(self.config, batch_size, n_slots, "float32")
        for layers in storage.tensors.values():
            layers[0][:] = np.nan
        return storage

    def new_paged_cache(self, *args):
        from tfguide.generation.verbs import Generator

        return Generator.new_paged_cache(self, *args)

    def decode_rows(self, tokens, rows, cache, wanted, prompts):
        self.n_read += 1
        if self.fails_at is not None and self.n_read >= self.fails_at:
            raise MemoryError("no memory is left")
        cache.check_room(np.bincount(rows, minlength=cache.batch_size))
        assert len(tokens) == len(rows) == len(wanted) == len(prompts)
        keys, found = cache.storage.tensors["key"][0], []
        for token, row, is_wanted in zip(tokens.tolist(), rows.tolist(), wanted.tolist(), strict=True):
            p, size = int(cache.lengths[row]), cache.block_size
            before = 1 if p == 0 else int(keys[cache.tables[row, (p - 1) // size], (p - 1) % size, 0, 0])
            state = mix(before, token)
            keys[cache.tables[row, p // size], p % size, 0, 0] = state
            cache.lengths[row] += 1
            if is_wanted:
                logits = np.full(V, np.nan if token in self.broken else 0.0, np.float32)
                places = np.arange(p + 1)
                logits[token_of(keys[cache.tables[row, places // size], places % size, 0, 0])] += 5
                found.append(logits)
        return np.array(found, np.float32).reshape(-1, V)


def engine(n_blocks=12, model=None, **options):
    return Engine(model or HashModel(), n_blocks=n_blocks, **{"block_size": 16, "rows": 4, "tokens": 24} | options)


def check_idle(engine):
    """Nothing is left of any request."""
    pool = engine.pool
    assert engine.is_idle and pool.n_used == 0
    assert sorted([*pool._free, *pool._cached]) == list(range(pool.n_blocks))
    assert sorted(engine.scheduler._rows) == list(range(engine.scheduler.limits.rows))


def check_end(sequence):
    """A sequence has the tokens that it would have alone, and ended for the reason that it gives."""
    expected = alone(sequence.request.prompt, sequence.max_new_tokens, sequence.stop_tokens)
    assert sequence.new_tokens == expected[: sequence.n_new]
    if sequence.finish is Finish.ABORT:
        return
    assert sequence.new_tokens == expected
    ended = sequence.new_tokens[-1] in sequence.stop_tokens
    assert sequence.finish is (Finish.STOP if ended else Finish.LENGTH)


def drain(engine, most=5000):
    for _ in range(most):
        if engine.is_idle:
            return
        engine.step()
    raise AssertionError(f"not idle after {most} steps")


def request(prompt, n_new=None, **options):
    return Request(prompt=prompt, max_new_tokens=n_new, stop_tokens=options.pop("stop_tokens", ()), **options)
