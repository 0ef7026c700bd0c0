"""What comes in: strict models of bodies and queries, the fields they are made of, and what is wrong, in French."""
