"""The container's program: enrols an Atom, fetches its secrets, keeps them sealed at rest and gives them to programs."""

VERSION = "0.1.0"
