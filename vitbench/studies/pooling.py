"""Class token or global average pooling?"""

from vitbench.studies import Arm, Study

STUDY = Study(
    question="Does a class token beat averaging the patch tokens, once each has its own learning rate?",
    source="Dosovitskiy et al. 2021, appendix D.3 and Figure 9",
    baseline=Arm("cls", pool="cls"),
    arms=[Arm("gap", pool="gap"), Arm("mean_all", pool="mean_all"), Arm("map", pool="map")],
    tuning="grid",
)
