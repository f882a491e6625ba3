"""ProofWriter, open world: does a hypothesis follow from facts and rules; generated, or read from the published data."""

from reckoning_betty.data.proofwriter.generator import Negation, ProofWriterGenerator, Split
from reckoning_betty.data.proofwriter.structures import Kind

__all__ = ["Kind", "Negation", "ProofWriterGenerator", "Split"]
