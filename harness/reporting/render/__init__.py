"""One module a format; each has one function from a `Table` to text or to a file."""
