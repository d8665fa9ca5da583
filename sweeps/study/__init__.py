"""A study as a thing: its folder, its study file, its trials, requests to it."""
