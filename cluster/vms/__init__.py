"""Back-end `vms`: a Ray cluster on machines of a cloud, started by Ray's launcher."""
