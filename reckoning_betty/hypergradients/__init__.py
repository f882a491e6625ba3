"""Hypergradient methods, one file each: how the outer gradient comes through the inner steps."""
