"""A trained model made fast: folded, fused, in half precision."""
