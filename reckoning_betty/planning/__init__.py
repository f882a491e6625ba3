"""Will it fit: the memory of an outer step, known before any weights are loaded."""
