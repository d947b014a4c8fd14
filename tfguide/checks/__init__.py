"""What a caller may pass: numbers and names in `values`, tensors in `shapes`. One wording of each error."""
