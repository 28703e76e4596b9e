"""How do many runs share a Ray cluster (extra `ray`)? Each is one task; Ray decides where it goes.

`cluster.py` connects and knows what the cluster has, `nodes.py` which of its machines may be given runs, `sweep.py` hands
runs out and brings lost ones back, `task.py` is what happens on a node.
"""

from vitbench.execution.cluster.cluster import ClusterOptions, RayCluster

__all__ = ["ClusterOptions", "RayCluster"]
