"""The data of problems: points with what is known there, bundled, in files of our own, or in tables of users."""
