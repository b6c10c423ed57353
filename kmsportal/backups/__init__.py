"""Backups: the database and a snapshot of the hosted vault in one directory, and the way back."""
