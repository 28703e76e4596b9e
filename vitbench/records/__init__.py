"""What was measured: the record schema, the environment beside it, and the append-only store. Imports no torch."""

from vitbench.records.curve import Curve, EpochPoint
from vitbench.records.design import Design
from vitbench.records.environment import Environment, describe_environment
from vitbench.records.faults import Fault, Faults
from vitbench.records.schema import Cost, Outcome, Record, pack_correct, unpack_correct
from vitbench.records.sharing import OncePerPlace, by_place
from vitbench.records.store import RecordStore, reading_once

__all__ = [
    "Cost",
    "Curve",
    "Design",
    "Environment",
    "EpochPoint",
    "Fault",
    "Faults",
    "OncePerPlace",
    "Outcome",
    "Record",
    "RecordStore",
    "by_place",
    "describe_environment",
    "pack_correct",
    "reading_once",
    "unpack_correct",
]
