"""How the mathematics is run: eager, compiled, fused."""
