"""Back-end `slurm`: jobs as batch scripts of SLURM."""
