"""The technologies behind the domain's ports. Imports nothing, so that each can be loaded without the others."""
