"""Data, tokenisers and metrics of the applications; imports no framework."""
