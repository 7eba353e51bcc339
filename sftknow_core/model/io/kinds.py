"""What a weight tensor can be. A file of its own, so that regions can be named without loading torch."""

KINDS = ("attention", "mlp", "norm", "embedding", "lm_head", "other")
