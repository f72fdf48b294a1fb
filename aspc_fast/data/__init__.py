"""Files -> validated transitions -> device-resident replay."""
