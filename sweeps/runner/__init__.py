"""Training of a study on a Ray cluster: the driver, the workers, and what they ask Ray for."""
