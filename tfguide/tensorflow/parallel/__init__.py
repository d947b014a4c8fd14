"""A model that several processes compute together."""
