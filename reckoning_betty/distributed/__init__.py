"""Several processes, each with its share of an outer step's tasks."""
