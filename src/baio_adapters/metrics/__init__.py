"""Metrics for Prometheus: workers report what happens, and the process that started them counts and serves it.

A worker only notes what has happened, and sends it twice a second through a pipe (``reports``). The process that
started the workers adds it up (``measures``) and serves the sums on an address of its own (``page``). So one address
answers for all workers, a sum outlives the worker that it came from, and no worker needs Prometheus' library.
"""
