"""The thread of an engine: every request ends, whoever asks, whatever happens."""

import threading
import time

import pytest

from tests.serving.hashing import HashModel, alone, check_idle, engine, request
from tests.support import refuses
from tfguide.serving import Finish, QueueFull
from tfguide.serving.service import Service, Stopped


class Clients:
    """Collects the updates of each client, and lets a test wait for the end of all."""

    def __init__(self):
        self.tokens, self.ends, self.changed = {}, {}, threading.Condition()

    def __call__(self, updates):
        with self.changed:
            for update in updates:
                own = self.tokens.setdefault(update.sequence, [])
                assert update.sequence not in self.ends, "an update after the end"
                if update.token is not None:
                    own.append(update.token)
                if update.finish is not None:
                    self.ends[update.sequence] = update.finish
            self.changed.notify_all()

    def wait(self, sequences, seconds=20):
        with self.changed:
            assert self.changed.wait_for(lambda: all(s in self.ends for s in sequences), seconds)


@pytest.fixture
def serve():
    """A function that starts a service of an engine, and stops it after the test."""
    services = []

    def start(one, **options):
        clients = Clients()
        services.append(Service(one, clients, **options))
        services[-1].start()
        return services[-1], clients

    yield start
    for service in services:
        service.stop()


def test_many_threads_get_what_each_asked_for(serve):
    service, clients = serve(engine(n_blocks=30, rows=8, tokens=32))
    asked, errors = [], []

    def ask(number):
        try:
            for i in range(5):
                prompt = [(number * 7 + i * 3 + j) % 11 for j in range(1 + 3 * number)]
                asked.append((service.submit(request(prompt, 8), number)[0], alone(prompt, 8)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(asked) == 60
    clients.wait([sequence for sequence, _ in asked])
    for sequence, tokens in asked:
        assert clients.tokens[sequence] == tokens and clients.ends[sequence] is Finish.LENGTH
        assert sequence.client == int((len(sequence.request.prompt) - 1) / 3)
    assert service.drain(5)
    check_idle(service.engine)


def test_an_abort_frees_the_blocks_and_the_client_hears_of_it_once(serve):
    service, clients = serve(engine(n_blocks=12))
    running = service.submit(request([1], 190, n=2))
    service.abort(running)
    service.abort(running)
    clients.wait(running)
    assert all(clients.ends[sequence] is Finish.ABORT for sequence in running)
    assert service.drain(5)
    check_idle(service.engine)


def test_an_engine_that_fails_ends_every_request_and_takes_no_more(serve):
    """Row 26: nobody waits for ever, and the service says that it is dead."""
    model = HashModel()
    service, clients = serve(engine(model=model, rows=2, n_blocks=12))
    first = service.submit(request([1], 3))
    clients.wait(first)
    assert service.is_alive()
    model.fails_at = model.n_read + 3
    late = [service.submit(request([i], 100))[0] for i in range(5)]
    clients.wait(late)
    assert all(clients.ends[sequence] is Finish.ERROR for sequence in late)
    assert {sequence.error for sequence in late} == {"the engine has failed"}
    assert isinstance(service.failure, MemoryError) and not service.is_alive()
    with refuses(Stopped, "the service takes no more requests"):
        service.submit(request([1], 1))
    assert service.drain(1)


def test_overload_is_refused_at_once(serve):
    class Slow(HashModel):
        def decode_rows(self, *args):
            time.sleep(0.002)
            return super().decode_rows(*args)

    service, clients = serve(engine(model=Slow(), rows=1, tokens=4, waiting=5))
    taken, refused = [], 0
    for i in range(40):
        try:
            taken += service.submit(request([i % 11], 20))
        except QueueFull:
            refused += 1
    assert refused >= 30 and 5 <= len(taken) <= 8
    clients.wait(taken)
    check_idle(service.engine)


def test_draining_ends_what_runs_and_stopping_does_not_wait_for_ever(serve):
    class Slow(HashModel):
        def decode_rows(self, *args):
            time.sleep(0.01)
            return super().decode_rows(*args)

    service, clients = serve(engine(model=Slow()))
    short, long = service.submit(request([1], 5))[0], service.submit(request([2], 190))[0]
    began = time.monotonic()
    service.stop(0.3)
    assert time.monotonic() - began < 5
    assert clients.ends == {short: Finish.LENGTH, long: Finish.ABORT}
    with refuses(Stopped, "the service takes no more requests"):
        service.submit(request([1], 1))
    check_idle(service.engine)


def test_a_wrong_request_is_refused_in_the_thread_that_sends_it(serve):
    service, clients = serve(engine())
    with refuses(ValueError, "the prompt has 300 tokens"):
        service.submit(request([1] * 300, 5))
    sequences = service.submit(request([1], 5))
    clients.wait(sequences)
    assert service.is_alive()


def test_an_idle_service_is_alive_and_wakes_up(serve):
    service, clients = serve(engine())
    time.sleep(0.05)
    assert service.is_alive(seconds=3)
    clients.wait(service.submit(request([3], 4)))
