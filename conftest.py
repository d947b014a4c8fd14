"""What holds for every test, the notebooks included."""

import os
import signal
import threading
from collections.abc import Generator

import pytest
from nbval.plugin import IPyNbCell, IPyNbFile
from xdist.scheduler import LoadFileScheduling

# Before any test imports a framework. Make sets the same, so this serves a bare `pytest`.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from tfguide.loading import FRAMEWORKS
from tfguide.triton import load_triton

load_triton()  # a test may import TensorFlow first, and transformers, which compiles, before the package


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out slow tests, and most of a long list of cases")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What a notebook writes to stderr is not compared: frameworks log there what depends on the machine.
    for notebook in {item.parent for item in items if isinstance(item.parent, IPyNbFile)}:
        notebook.skip_compare = (*notebook.skip_compare, "stderr")
    if config.getoption("--quick"):
        left_out = set(items) - quick(items)
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


CASES = 4  # of each test function, or half as many in each of two frameworks


def quick(items: list[pytest.Item]) -> set[pytest.Item]:
    """The tests that are not slow, and of each function some of its cases: the first, the last, and some between."""
    # A cell tagged `slow`, the first one of its notebook, leaves the whole notebook out: cells need those before them.
    left_out = {
        item.parent for item in items if isinstance(item, IPyNbCell) and "slow" in item.cell.metadata.get("tags", ())
    }
    lists: dict[str, dict[str | None, list[pytest.Item]]] = {}
    for item in items:
        if item.get_closest_marker("slow") is None and item.parent not in left_out:
            lists.setdefault(item.nodeid.partition("[")[0], {}).setdefault(framework_of(item), []).append(item)
    kept = set()
    for cases in lists.values():
        most = max(2, CASES // len(cases))
        for some in cases.values():
            n = min(most, len(some))
            kept.update(some[i * (len(some) - 1) // max(1, n - 1)] for i in range(n))
    return kept


def framework_of(item: pytest.Item) -> str | None:
    """The framework that is a parameter of the test, if one is."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return next((value for value in values if isinstance(value, str) and value in FRAMEWORKS), None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A cell whose kernel dies fails at once and says so; nbval itself waits until the time of the cell is up."""
    main = threading.current_thread() is threading.main_thread()  # the only one that may handle a signal
    if not (main and hasattr(signal, "SIGCHLD") and isinstance(item, IPyNbCell) and item.parent.kernel.is_alive()):
        return (yield)
    kernel = item.parent.kernel.km.provisioner.pid

    def on_end_of_a_child(*_) -> None:
        ended = os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None and not item.parent.timed_out:  # else nbval has killed it
            item.parent.timed_out = True  # nbval expects the cells that follow to fail
            killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            by = signal.Signals(ended.si_status).name if killed else f"exit status {ended.si_status}"
            item.raise_cell_error(f"The kernel died: {by}.")

    before = signal.signal(signal.SIGCHLD, on_end_of_a_child)
    try:
        return (yield)
    finally:
        signal.signal(signal.SIGCHLD, before)


# What takes longest begins first, or one core works at it at the end while the others have nothing left.
LONGEST = (
    ".ipynb", "test_import_orders.py", "test_machines.py", "test_compilers.py", "test_stuck_pages.py",
    "test_browser.py", "test_ray.py",
)  # fmt: skip


class _EachOnce(LoadFileScheduling):
    """The longest files first, then those with the most tests, as pytest-xdist orders them.

    Where a worker dies in a test, another one goes on behind it. pytest-xdist's own would die there again.
    """

    def _assign_work_unit(self, node):
        longest = next((scope for scope in self.workqueue if scope.endswith(LONGEST)), None)
        if longest is not None:
            self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)

    def remove_node(self, node):
        workload, self.assigned_work[node] = self.assigned_work[node], {}
        super().remove_node(node)
        left = {scope: [test for test, done in unit.items() if not done] for scope, unit in workload.items()}
        crashed = next((test for tests in left.values() for test in tests), None)
        for scope, tests in left.items():
            remaining = {test: False for test in tests if test != crashed}
            if remaining:
                self.workqueue[scope] = remaining
        if crashed is not None:
            self.schedule()
        return crashed


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LoadFileScheduling | None:
    """For --dist loadfile, which keeps the cells of a notebook together, the one above; else pytest-xdist's own."""
    return _EachOnce(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With TFGUIDE_NO_SKIPS=1 a skipped test is a failure: the workflow has everything that a test may ask for."""
    if os.environ.get("TFGUIDE_NO_SKIPS") != "1" or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped:
        reporter.write_line("")
        reporter.write_line(f"TFGUIDE_NO_SKIPS=1, and {len(skipped)} skipped: that is a failure here.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
