"""CLUTRR: kinship stories whose answer follows from a chain of facts; generated, or read from the published data."""

from reckoning_betty.data.clutrr.generator import ClutrrGenerator, Form
from reckoning_betty.data.clutrr.kinship import RELATIONS, compose
from reckoning_betty.data.clutrr.reader import read_clutrr, read_clutrr_tests
from reckoning_betty.data.clutrr.renaming import Names
from reckoning_betty.data.clutrr.stories import Noise
from reckoning_betty.data.clutrr.text import words

__all__ = [
    "RELATIONS",
    "ClutrrGenerator",
    "Form",
    "Names",
    "Noise",
    "compose",
    "read_clutrr",
    "read_clutrr_tests",
    "words",
]
