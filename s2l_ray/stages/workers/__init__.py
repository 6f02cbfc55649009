"""What runs in the workers of a stage: heavy, and loaded there alone."""
