"""Measures the forms of fast weights, and other libraries, on one and the same workload."""
