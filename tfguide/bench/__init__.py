"""Timing against peers and against the machine: `tfguide bench decode --peers`, `tfguide bench prefill --peers`."""
