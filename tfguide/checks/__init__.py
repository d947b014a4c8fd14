"""Checks of a caller's arguments: numbers and names in `values`, tensors in `shapes`. Each error is worded once."""
