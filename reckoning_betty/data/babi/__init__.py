"""bAbI: short stories with questions about them, and the sentences that support each answer."""

from reckoning_betty.data.babi.reader import read_babi, read_babi_tests
from reckoning_betty.data.babi.stories import FORMAT

__all__ = ["FORMAT", "read_babi", "read_babi_tests"]
