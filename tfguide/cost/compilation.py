"""What starting the operations of a step costs, and after how many steps a compilation has paid."""

from __future__ import annotations

from tfguide.checks.values import check_count, check_number


def started_seconds(operations: int, start_seconds: float, n_bytes: float, bytes_per_second: float) -> float:
    """The seconds of a step whose operations are started one after another, and which reads so many bytes.

    Not counted: arithmetic, which overlaps with reading in a step of few rows, and what an operation reads and writes
    beside weights and cache. Raises ValueError for counts below 1 and for a number that is not above 0.

    >>> round(1e3 * started_seconds(1000, 5e-6, 500e6, 20e9), 3)
    30.0
    """
    operations = check_count("operations", operations)
    for name, value in (("start_seconds", start_seconds), ("n_bytes", n_bytes), ("bytes_per_second", bytes_per_second)):
        check_number(name, value, above=0.0)
    return operations * start_seconds + n_bytes / bytes_per_second


def steps_to_pay(compile_seconds: float, plain_seconds: float, compiled_seconds: float) -> int | None:
    """After how many steps the compiled ones, with their compilation, have taken no longer than plain ones.

    None where a compiled step is not faster than a plain one: then it never pays. Raises ValueError for seconds that
    are not above 0, of the compilation below 0.

    >>> steps_to_pay(30.0, 0.050, 0.020), steps_to_pay(30.0, 0.020, 0.020)
    (1000, None)
    """
    for name, value in (("plain_seconds", plain_seconds), ("compiled_seconds", compiled_seconds)):
        check_number(name, value, above=0.0)
    check_number("compile_seconds", compile_seconds)
    if compile_seconds < 0:
        raise ValueError(f"compile_seconds must be at least 0, got {compile_seconds}")
    gain = plain_seconds - compiled_seconds
    if gain <= 0:
        return None
    steps = int(compile_seconds / gain)
    return steps if compile_seconds <= steps * gain * (1 + 1e-12) else steps + 1
