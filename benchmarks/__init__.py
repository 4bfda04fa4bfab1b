"""Benchmarks of BAiO, each compared with its floor in the same run. ``python -m benchmarks`` runs them all."""
