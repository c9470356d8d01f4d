"""The application: command line, jobs, run folders, reports. It imports every room of the house; no room imports it."""

__version__ = "0.1.0"
