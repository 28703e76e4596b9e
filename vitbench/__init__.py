"""vitbench: ablations and benchmarks of Vision Transformers, by one identical harness."""

__version__ = "0.1.0"
