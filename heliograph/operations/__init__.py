"""The capabilities of a deployment, one function each. They print nothing; the command line and every API call them."""
