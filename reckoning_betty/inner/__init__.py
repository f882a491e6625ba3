"""The inner level's arithmetic: fast weights, inner rates, and the knowledge-encoding step that joins them."""
