"""How many register tokens?"""

from vitbench.studies import Arm, Study

STUDY = Study(
    question="Do register tokens raise the accuracy of a small model?",
    source="Darcet et al. 2024",
    baseline=Arm("0 registers", num_registers=0),
    arms=[Arm("1 register", num_registers=1), Arm("4 registers", num_registers=4), Arm("8 registers", num_registers=8)],
)
