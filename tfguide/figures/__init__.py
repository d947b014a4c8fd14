"""How the figures and tables of the book are drawn: a file for each subject over `style`, `canvas` and `tables`."""
