"""Plain PyTorch trainers of the algorithms that ASPC is compared with: one file each, importing nothing of ours."""
