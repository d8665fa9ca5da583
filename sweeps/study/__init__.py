"""A study: its folder, its study file, its trials, requests to it."""
