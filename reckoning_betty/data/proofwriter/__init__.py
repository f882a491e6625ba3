"""ProofWriter, open world: does a hypothesis follow from facts and rules; generated, or read from published data."""

from reckoning_betty.data.proofwriter.generator import Negation, ProofWriterGenerator
from reckoning_betty.data.proofwriter.reader import read_proofwriter, read_proofwriter_tests
from reckoning_betty.data.proofwriter.structures import Kind

__all__ = ["Kind", "Negation", "ProofWriterGenerator", "read_proofwriter", "read_proofwriter_tests"]
