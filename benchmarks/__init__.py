"""Measurements of BAiO, each against its floor in the same run; ``python -m benchmarks`` takes them all."""
