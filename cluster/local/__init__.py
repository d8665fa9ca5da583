"""Back-ends of this machine: `local` in the background and `inline` in the foreground."""
