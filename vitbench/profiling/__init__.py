"""What a model costs. Imports no torch: the closed forms here serve `vitbench plan`; measuring is in its own modules."""

from vitbench.profiling.counts import Counts
from vitbench.profiling.macs import count, count_parts

__all__ = ["Counts", "count", "count_parts"]
