"""Timing against peers, on the machine in front of you. Run a module: `python -m tfguide.bench.prefill --help`."""
