"""Hypergradient methods side by side: what each costs, how near to the exact one it comes, and what it learns."""
