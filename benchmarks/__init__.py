"""Side-by-side benchmarks: the floor, a Python peer and tcell-cds, in one run on one machine."""
