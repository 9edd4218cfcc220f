"""The sections of benchmark.py, one a file; each has `measure(quick) -> Iterable[Table]`."""
