"""The mathematics: pure functions on tensors. Knows nothing of files, environments or engines."""
