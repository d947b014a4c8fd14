"""How the figures of the book are drawn. Nothing else in tfguide imports this package."""
