"""Tools beside training: doctor, bench, profile, verify, the kernel compiler."""
