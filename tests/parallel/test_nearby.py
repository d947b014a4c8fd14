"""Collectives through shared memory, between threads that each map the file."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.support import refuses
from tfguide.torch.parallel.nearby import CAPACITY, Nearby

pytestmark = pytest.mark.skipif(not Nearby.is_available(), reason="not an x86 processor")


def run(file, n, work, silence=20.0):
    """What `work` returns for each of n members, each in a thread."""
    with ThreadPoolExecutor(n) as pool:
        members = [Nearby(str(file), rank, n, silence) for rank in range(n)]
        return [future.result() for future in [pool.submit(work, member) for member in members]]


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_many_calls_of_many_sizes(n, dtype, tmp_path):
    def tensors(call):
        stream = torch.Generator().manual_seed(call)
        size = int(torch.randint(1, 3000, (1,), generator=stream))
        return [torch.randn(size, 2, generator=stream).to(dtype) for _ in range(n)]

    def work(member):
        found = []
        for call in range(60):
            own = tensors(call)[member.rank]
            found.append((member.all_reduce(own), member.all_gather(own)))
        return found

    each = run(tmp_path / "memory", n, work)
    for call in range(60):
        parts = tensors(call)
        total = parts[0].clone()
        for part in parts[1:]:
            total += part
        for found in each:
            assert torch.equal(found[call][0], total) and torch.equal(found[call][1], torch.cat(parts))


def test_a_result_is_not_overwritten_by_later_calls(tmp_path):
    def work(member):
        first = member.all_reduce(torch.ones(4)), member.all_gather(torch.ones(4))
        for _ in range(5):
            member.all_reduce(torch.zeros(4))
        return first

    for total, whole in run(tmp_path / "memory", 2, work):
        assert total.tolist() == [2.0] * 4 and whole.tolist() == [1.0] * 8


def test_what_does_not_fit_is_refused(tmp_path):
    member = Nearby(str(tmp_path / "memory"), 0, 1, 1.0)
    assert member.fits(torch.ones(CAPACITY // 4)) and not member.fits(torch.ones(CAPACITY // 4 + 1))


def test_other_sizes_are_an_error(tmp_path):
    with refuses(ValueError, "process 1 exchanges 12 bytes, not 8"):
        run(tmp_path / "memory", 2, lambda member: member.all_reduce(torch.ones(2 + member.rank)))


def test_who_does_not_come_is_named(tmp_path):
    with refuses(TimeoutError, "process 1 has not come in 0.2 s"):
        run(tmp_path / "memory", 2, lambda member: member.rank or member.all_reduce(torch.ones(2)), silence=0.2)
