"""Everything an operator or a program may ask or do, a function each. Prints nothing; every door calls these."""
