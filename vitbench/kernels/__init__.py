"""Operators that do in one pass over memory what torch does in several, where a C++ compiler is at hand.

Everything here has a plain counterpart in torch, which is used where this cannot be, and against which it is tested.
"""
