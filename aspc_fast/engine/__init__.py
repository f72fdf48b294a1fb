"""How the mathematics is run: eager, compiled, native, fused."""
