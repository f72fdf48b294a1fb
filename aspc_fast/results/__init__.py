"""What training leaves behind and how it is read back: folders, records, checkpoints, policies, loggers, exports."""
