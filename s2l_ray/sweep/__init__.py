"""Many runs that share what they have in common: selectors, budgets and seeds tried side by side."""
