"""The support staff's pages: found by id, shown without secrets, every look an audit row of the account it concerns."""
