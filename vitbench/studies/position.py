"""Which position embedding, and where?"""

from vitbench.studies import Arm, Study

STUDY = Study(
    question="Does it matter how position is embedded, and where, once it is?",
    source="Dosovitskiy et al. 2021, appendix D.4 and Table 8",
    baseline=Arm("1-D, stem", position="learned_1d"),
    arms=[
        Arm("none", position="none"),
        Arm("1-D, every layer", position="learned_1d", position_site="every_layer"),
        Arm("1-D, every layer, shared", position="learned_1d", position_site="every_layer_shared"),
        Arm("2-D, stem", position="learned_2d"),
        Arm("2-D, every layer", position="learned_2d", position_site="every_layer"),
        Arm("2-D, every layer, shared", position="learned_2d", position_site="every_layer_shared"),
        Arm("relative, every layer", position="relative", position_site="every_layer"),
        Arm("relative, every layer, shared", position="relative", position_site="every_layer_shared"),
        # Not in Table 8: what later models took in place of a learned table.
        Arm("sincos, stem", position="sincos_2d"),
        Arm("RoPE, every layer", position="rope_2d", position_site="every_layer"),
    ],
)
