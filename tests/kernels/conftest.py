from tests.kernels import interpreter  # noqa: F401  (before any test module of this folder imports triton)
