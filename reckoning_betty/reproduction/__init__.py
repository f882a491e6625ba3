"""The paper's experiments: described in YAML, run as training runs, collected, judged, and put on a page."""
