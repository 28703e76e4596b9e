"""Study files that tests of several packages write: as short as they can be."""

TWO_POOLS = """
from vitbench.studies import Arm, Study

STUDY = Study(question="?", source="", baseline=Arm("cls"), arms=[Arm("gap", pool="gap")])
"""

SIZES = """
from vitbench.studies import Arm, Study

STUDY = Study(
    question="What becomes of weights at another image size?",
    source="",
    baseline=Arm("8 px"),
    arms=[
        Arm("12 px", start="8 px", epochs=0, image_size=12),
        Arm("12 px, on", start="8 px", epochs=0.5, image_size=12),
        Arm("12 px, further", start="12 px, on", epochs=0.5, image_size=12),
    ],
)
"""
"""A chain: each arm goes on from the weights of the one before it, at another image size."""
