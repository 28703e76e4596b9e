"""Operators that do in one pass over memory what torch does in several, where a C++ compiler is at hand.

`kernels.blocks.install(model)` puts them into a built model. Each has a plain counterpart in torch, which computes where it
cannot, and against which it is tested.
"""
