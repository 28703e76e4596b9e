"""From planned runs to records: one run, and many of them on local worker processes or Ray."""

from vitbench.execution.job import Job, Report

__all__ = ["Job", "Report"]
