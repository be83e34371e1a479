"""This project beside its peers: ``python -m benchmarks [NAME ...]``."""
