"""What one element of a tensor is, as an expression of its index: the means by which passes recognize what exporters
wrote, by what it computes and not by how it is spelled. polynomial -> formula -> moves -> reader."""
