"""Make one person's photo take on the expressions of another person's video."""
