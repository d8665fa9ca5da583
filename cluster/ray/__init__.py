"""Back-end `ray`: jobs of a Ray cluster that is already up."""
