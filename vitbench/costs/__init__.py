"""What a model costs: parameters, MACs and activations, by closed form and by two counters. Imports no torch itself."""

from vitbench.costs.counts import Counts
from vitbench.costs.macs import count, count_parts

__all__ = ["Counts", "count", "count_parts"]
