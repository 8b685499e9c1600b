"""What answers: local checkpoints through lm-eval's backends, and scripted models. See `harness.models.base`."""
