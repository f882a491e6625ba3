"""Training one method after another: the engine, the saved state, metrics, and the run directory."""
