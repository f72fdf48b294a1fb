"""Triton kernels: each file is kernel, launcher and plain-PyTorch twin."""
