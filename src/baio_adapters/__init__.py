"""The technologies behind the domain's ports. Imports nothing, so that each loads alone."""
