"""Day logs: reading and writing them, drawing them, scoring what a policy made of them."""
