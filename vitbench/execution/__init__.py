"""How do plans become records? One run, single or of studies, on local worker processes or Ray, beside other processes."""

from vitbench.execution.job import Job, Report

__all__ = ["Job", "Report"]
