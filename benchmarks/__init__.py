"""The same work by this project and by what people use instead, side by side in one run."""
