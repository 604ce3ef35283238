"""How good a model is: evaluation, comparison, sweeps, challenge, data check, and their pages."""
