"""Throughput and memory of training on several processes, by strategy."""
