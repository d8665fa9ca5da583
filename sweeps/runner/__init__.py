"""Training a study on a Ray cluster: the driver, the workers, what Ray is asked for."""
