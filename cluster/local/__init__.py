"""Back-ends on this machine: `local`, in the background, and `inline`, here and now."""
